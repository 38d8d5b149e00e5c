"""Random draws that give the same values on every machine.

Synopsis:

  draws = Draws(seed, domain, split, index, stream)
  height = draws.uniform(1.2, 2.2)
  noise = draws.bytes(64 * 128)

Only the raw stream of PCG64 is used (doubles in [0, 1) and bytes); every distribution is built
from it with plain Python arithmetic, because a fused multiply-add inside a compiled distribution
may change the last bit.
"""

from collections.abc import Sequence

import numpy as np

_BUFFER_SIZE = 512


class Draws:
    """One independent stream of random numbers, named by a tuple of non-negative integers."""

    def __init__(self, *key: int) -> None:
        """Starts the stream of this key."""
        self._rng = np.random.default_rng(list(key))
        self._buffer: list[float] = []

    def unit(self) -> float:
        """A double in [0, 1)."""
        if not self._buffer:
            self._buffer = self._rng.random(_BUFFER_SIZE).tolist()
        return self._buffer.pop()

    def uniform(self, low: float, high: float) -> float:
        """A double between low and high."""
        return low + (high - low) * self.unit()

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high], both included."""
        return low + int(self.unit() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.unit() < probability

    def sign(self) -> int:
        """Either -1 or +1."""
        return 1 if self.unit() < 0.5 else -1

    def pick(self, weights: Sequence[float]) -> int:
        """An index with the given probabilities; the last one takes what is left of 1."""
        value = self.unit()
        for index, weight in enumerate(weights[:-1]):
            value -= weight
            if value < 0:
                return index
        return len(weights) - 1

    def bytes(self, count: int) -> np.ndarray:
        """[count] uint8, uniform."""
        return np.frombuffer(self._rng.bytes(count), np.uint8)
