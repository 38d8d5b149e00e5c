"""Coordinates the processes of one run, on one machine or many: one writes, and all agree.

Synopsis:

  join(coordinator="10.0.0.1:1234", num_processes=4, process_id=0)
  step = from_primary(find_latest_step)     # computed by process 0, returned in all
  if is_primary():
      write_log()

All processes run the same program on a shared file system. A single process is its own primary and
does not communicate.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from alp_jax.errors import UserError, describe

_NONE, _FAILED = -1, -2


def join(*, coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes of the run; to be called before JAX computes anything.

    Args:
      coordinator: HOST:PORT of process 0; None where the cluster provides it (TPU pods, Slurm,
        MPI).
      num_processes, process_id: None likewise.
    Raises:
      UserError: if the processes do not connect.
    """
    try:
        jax.distributed.initialize(
            coordinator_address=coordinator, num_processes=num_processes, process_id=process_id
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes of the run did not come together ({describe(error)}): give all of them "
            "the same --coordinator=HOST:PORT of process 0 and --num_processes, and each its own "
            "--process_id from 0."
        ) from error


@contextlib.contextmanager
def leaving_on_error() -> Iterator[None]:
    """Exits at once if this process fails and the run has others, instead of deadlocking.

    Python's normal exit would wait for the other processes, which wait for this one's messages.
    After the immediate exit JAX tells the others that this process is gone, and they end with its
    error within two minutes.
    """
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1:
            raise
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr)
        else:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2 if isinstance(error, UserError) else 1)


def is_primary() -> bool:
    """Returns whether this process writes the run's files: the log, scores, pictures."""
    return jax.process_index() == 0


def from_primary(compute: Callable[[], int | None]) -> int | None:
    """Computes a number (at least 0) or None in the primary process, and broadcasts it to all.

    Raises:
      UserError: in all processes, if `compute` raises it.
    """
    if jax.process_count() == 1:
        return compute()
    value, failure = _NONE, None
    if is_primary():
        try:
            found = compute()
            value = _NONE if found is None else found
        except UserError as error:
            value, failure = _FAILED, error
    value = int(multihost_utils.broadcast_one_to_all(np.int32(value)))
    if failure is not None:
        raise failure
    if value == _FAILED:
        raise UserError("Process 0 cannot go on: its own message says why, and what to do.")
    return None if value == _NONE else value


def any_process(flag: bool) -> bool:
    """Returns whether the flag is set in any process; all must call it at the same point."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))
