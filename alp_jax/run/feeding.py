"""Batches on the device, one ahead of the step that runs, and how long steps waited for them.

Synopsis:

  with DeviceFeed(iterator, place) as feed:
      for step in range(num_steps):
          (batch, notes), seconds_waited = feed.next_batch(after=scalars)
          state, scalars = train_fn(state, batch)
"""

import concurrent.futures
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax

PyTree = Any


class DeviceFeed:
    """Reads and places the next batch in a thread, while the step before runs."""

    def __init__(self, batches: Iterator[PyTree], place: Callable[[PyTree], PyTree]):
        """Begins to read.

        Args:
          batches: endless, or at least as long as the run.
          place: puts a batch where the step expects it (`jax.device_put`).
        """
        self._batches, self._place = batches, place
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "feed")
        self._next = self._executor.submit(self._read)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)  # Waits for the one that is read.

    def next_batch(self, *, after: PyTree) -> tuple[PyTree, float]:
        """Takes the next batch and begins to read the one after it.

        Where the batch is not there yet, the step before is waited for first: time counts as waited
        only when the device has nothing to do.

        Args:
          after: what the step before returned; an empty tree before the first.
        Returns:
          (batch, seconds waited for it).
        Raises:
          Exception: what reading the batch raised.
        """
        seconds_waited = 0.0
        if not self._next.done():
            jax.block_until_ready(after)
            started = time.monotonic()
            concurrent.futures.wait([self._next])
            seconds_waited = time.monotonic() - started
        batch = self._next.result()
        self._next = self._executor.submit(self._read)
        return batch, seconds_waited

    def _read(self) -> PyTree:
        return self._place(next(self._batches))
