"""Trains several runs of a study at the same time, each in a process with cores of its own.

Synopsis:

  for planned, scores in train_all(waiting, 2):     # as they finish
      ...

A small network uses two cores hardly faster than one, so two runs at a time nearly halve the time
of a study. A run waits for the runs that it starts from, and an ensemble for its members. A process
that is stopped saves its run, like any training.
"""

import logging
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import traceback
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from alp_jax.command import cli, stopping
from alp_jax.errors import Stopped, UserError

if TYPE_CHECKING:  # A process chooses its cores before JAX is imported.
    from alp_jax.study.runs import Run
    from alp_jax.study.scores import RunScores

logger = logging.getLogger(__name__)

_STOPPED, _REFUSED, _FAILED, _DONE = "stopped", "refused", "failed", "done"


def check(jobs: int) -> None:
    """Refuses more jobs than cores, and several on an accelerator, whose memory one takes.

    Raises:
      UserError: naming --jobs.
    """
    import jax

    cores = len(list_cores())
    if jobs > cores:
        raise UserError(f"--jobs is {jobs}: expected at most {cores}, the number of cores.")
    if jobs > 1 and jax.default_backend() != "cpu":
        raise UserError(
            f"--jobs is {jobs}, and runs are computed by {jax.default_backend()}: expected 1, as "
            "the first process takes the memory of that device."
        )


def list_cores() -> list[int]:
    """Lists the cores that this process may use; on systems that do not tell, all."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def train_all(waiting: Sequence["Run"], jobs: int) -> Iterator[tuple["Run", "RunScores"]]:
    """Trains and scores runs in several processes; yields each with its scores as it finishes.

    Args:
      waiting: the runs, in an order in which each run follows the runs that it needs.
      jobs: number of processes.
    Raises:
      UserError: for a run that is refused; the others are stopped and saved.
      Stopped: after a signal; all runs are saved.
    """
    left, open_folders = list(waiting), {planned.workdir for planned in waiting}
    cores = list_cores()
    with stopping.StopRequest():
        workers = [_Worker(cores[number::jobs]) for number in range(min(jobs, len(left)))]
        try:
            while open_folders:
                for worker in workers:
                    if worker.planned is None and (chosen := find_ready(left, open_folders)):
                        left.remove(chosen)
                        logger.info("Training %s", chosen.workdir)
                        worker.start(chosen)
                busy = {worker.connection: worker for worker in workers if worker.planned}
                for connection in multiprocessing.connection.wait(list(busy)):
                    planned, scores = busy[connection].finish()  # type: ignore[index]
                    open_folders.remove(planned.workdir)
                    yield planned, scores
        finally:
            for worker in workers:
                worker.stop()
            for worker in workers:
                worker.process.join()


def find_ready(left: Sequence["Run"], open_folders: Collection[pathlib.Path]) -> "Run | None":
    """Finds the first run that needs no run which is not finished."""
    ready = (planned for planned in left if not planned.needed & set(open_folders))
    return next(ready, None)


class _Worker:
    """A process that trains one run after another.

    Attributes:
      process: it.
      connection: to it.
      planned: the run that it is training; None while it waits.
    """

    def __init__(self, cores: Sequence[int]):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, list(cores)))
        self.process.start()
        other.close()
        self.planned: Run | None = None

    def start(self, planned: "Run") -> None:
        """Sends a run to the process."""
        self.planned = planned
        self.connection.send(planned)

    def finish(self) -> tuple["Run", "RunScores"]:
        """Receives the scores of the run.

        Raises:
          UserError, Stopped: as the training of the run.
          RuntimeError: if the process ended or failed otherwise.
        """
        planned, self.planned = self.planned, None
        assert planned is not None
        try:
            outcome, found = self.connection.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(
                f"The process that trained {planned.workdir} ended with "
                f"{self.process.exitcode}; the same command continues."
            ) from None
        if outcome == _STOPPED:
            raise Stopped(found)
        if outcome == _REFUSED:
            raise UserError(found)
        if outcome == _FAILED:
            raise RuntimeError(f"The training of {planned.workdir} failed:\n{found}")
        return planned, found

    def stop(self) -> None:
        """Ends the process; a run is saved first."""
        if self.planned is None:
            self.connection.close()
        elif self.process.is_alive():
            self.process.terminate()


def _serve(connection: Any, cores: Sequence[int]) -> None:
    """Trains the runs that a connection sends, until it is closed."""
    stopping.follow_main_process()
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C in a terminal reaches the main process alone, which then stops us.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    cli.set_environment()
    from alp_jax.study import scoring

    while True:
        try:
            planned = connection.recv()
        except EOFError:
            return
        outcome: tuple[str, Any]
        try:
            outcome = _DONE, scoring.train_and_score(planned)
        except Stopped as error:
            outcome = _STOPPED, str(error)
        except UserError as error:
            outcome = _REFUSED, str(error)
        except Exception:
            outcome = _FAILED, traceback.format_exc()
        connection.send(outcome)
        if outcome[0] == _STOPPED:
            return
