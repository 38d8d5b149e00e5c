"""Prefetches one batch to the device while a step runs, and measures the time spent waiting.

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
    """Reads and places the next batch in a background thread, while the current step runs."""

    def __init__(self, batches: Iterator[PyTree], place: Callable[[PyTree], PyTree]):
        """Starts to read the first batch.

        Args:
          batches: iterator over batches, at least as many as the run takes.
          place: moves a batch to the devices of the step (`jax.device_put`).
        """
        self._batches, self._place = batches, place
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "feed")
        self._next = self._executor.submit(self._read)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)  # Waits for the batch in flight.

    def next_batch(self, *, after: PyTree) -> tuple[PyTree, float]:
        """Returns the next batch, and starts to read the one after it.

        If the batch is not ready, this first waits for the previous step: only time in which the
        device is idle counts as waiting.

        Args:
          after: outputs of the previous step; an empty tree before the first step.
        Returns:
          (batch, seconds spent waiting for it).
        Raises:
          Exception: an error from reading the batch.
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
