"""Applies a function to many items in worker processes, in order.

Synopsis:

  with WorkerPool(workers=2) as pool:
      for result in pool.map(function, items):    # function and items must pickle
          ...
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Self, TypeVar

import cv2

from alp_jax.command.stopping import follow_main_process
from alp_jax.data import opening
from alp_jax.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

MAX_WORKERS = 256
DEFAULT_WORKERS = min(os.cpu_count() or 1, MAX_WORKERS)
_AHEAD = 4  # items in flight per worker


class WorkerPool:
    """A pool of worker processes; 1 works in this process. Results do not depend on the number."""

    def __init__(self, workers: int = 1) -> None:
        """Creates the pool; the processes start with the first item."""
        self._limit = workers * _AHEAD
        self._executor: concurrent.futures.ProcessPoolExecutor | None = None
        if workers > 1:
            self._executor = concurrent.futures.ProcessPoolExecutor(
                workers,
                multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(opening.pixel_limit(),),
            )

    def __enter__(self) -> Self:
        """Returns the pool."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the pool."""
        self.close()

    def close(self) -> None:
        """Ends the workers and cancels items that they have not started."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yields function(item) in the order of the items, with a bounded number in flight.

        Raises:
            UserError: if a worker process was killed from outside.
        """
        if self._executor is None:
            yield from map(function, items)
            return
        begun: collections.deque[concurrent.futures.Future[R]] = collections.deque()
        try:
            for item in items:
                with _interrupts_blocked():  # the first submit starts the processes
                    begun.append(self._executor.submit(function, item))
                if len(begun) >= self._limit:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(
                "A worker process was ended from outside, perhaps for lack of memory: "
                "run again with fewer --workers."
            ) from error


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Blocks SIGINT; processes started inside never receive it, not even during their imports."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _start_worker(pixel_limit: int) -> None:
    """Sets a worker up: one OpenCV thread, Ctrl-C ignored, and an end with its parent process."""
    opening.limiting_pixels(pixel_limit).__enter__()  # For the life of the process.
    cv2.setNumThreads(1)
    follow_main_process()
