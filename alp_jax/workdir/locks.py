"""Locks a workdir, so that one process at a time uses it.

Synopsis:

  with hold(workdir):
      train()
"""

import contextlib
import fcntl
import logging
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import IO

from alp_jax.errors import UserError, describe

logger = logging.getLogger(__name__)

FILE_NAME = "lock"


@contextlib.contextmanager
def hold(workdir: pathlib.Path) -> Iterator[None]:
    """Locks a workdir; creates it if missing, and removes it if still empty.

    The operating system holds the lock (flock) and releases it when the process ends, in whatever
    way: a lock file left behind locks nobody out.

    Raises:
      UserError: if another process holds the lock, or the workdir cannot be written to.
    """
    is_new = not workdir.exists()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = _acquire(workdir)
    except OSError as error:
        raise UserError(
            f"Cannot write to the workdir {workdir} ({describe(error)}): give a --workdir that you "
            "may write to."
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # A lock file left behind does no harm.
            (workdir / FILE_NAME).unlink()
        file.close()
        if is_new:
            with contextlib.suppress(OSError):  # Raised if the workdir is not empty: it stays.
                workdir.rmdir()


def _acquire(workdir: pathlib.Path) -> IO[str]:
    path = workdir / FILE_NAME
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise UserError(
                f"The workdir {workdir} is in use by process {holder}: wait for it, stop it, or "
                "give another --workdir."
            ) from None
        except OSError as error:  # Some network file systems have no locks.
            logger.warning(
                "%s cannot be locked (%s): start no second process there.", workdir, describe(error)
            )
            return file
        # The previous holder may have removed its lock file after we opened it and before we locked
        # it: then the file that we locked is no longer the one at this path.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()
    file.truncate(0)
    file.write(f"{os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file
