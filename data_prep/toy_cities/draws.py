"""Draws random numbers that are the same on every machine.

Synopsis:

  draws = Draws(seed, domain, split, index, stream)
  height = draws.uniform(1.2, 2.2)
  noise = draws.bytes(64 * 128)

Only the raw stream of PCG64 is used (doubles in [0, 1) and bytes). Every distribution is computed
from it in plain Python, because a fused multiply-add in a compiled distribution may change the last
bit.
"""

from collections.abc import Sequence

import numpy as np

_BUFFER_SIZE = 512


class Draws:
    """An independent stream of random numbers, identified by a tuple of non-negative integers."""

    def __init__(self, *key: int) -> None:
        """Starts the stream of a key."""
        self._rng = np.random.default_rng(list(key))
        self._buffer: list[float] = []

    def unit(self) -> float:
        """Draws a double in [0, 1)."""
        if not self._buffer:
            self._buffer = self._rng.random(_BUFFER_SIZE).tolist()
        return self._buffer.pop()

    def uniform(self, low: float, high: float) -> float:
        """Draws a double between low and high."""
        return low + (high - low) * self.unit()

    def integer(self, low: int, high: int) -> int:
        """Draws an integer in [low, high], both included."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Draws True with the given probability."""
        return self.unit() < probability

    def sign(self) -> int:
        """Draws -1 or +1."""
        return 1 if self.unit() < 0.5 else -1

    def pick(self, weights: Sequence[float]) -> int:
        """Draws an index with the given probabilities; the last index gets the remainder to 1."""
        value = self.unit()
        for index, weight in enumerate(weights[:-1]):
            value -= weight
            if value < 0:
                return index
        return len(weights) - 1

    def bytes(self, count: int) -> np.ndarray:
        """Draws uniform bytes: [count] uint8."""
        return np.frombuffer(self._rng.bytes(count), np.uint8)
