"""Chooses colours for classes without one.

Synopsis:

  choose_colours(2, taken=[(128, 64, 128)])     # [(r, g, b), (r, g, b)]
"""

import itertools
from collections.abc import Sequence

import numpy as np

Colour = tuple[int, int, int]

# Ignored pixels are black, pages are white.
_RESERVED = ((0, 0, 0), (255, 255, 255))
_LEVELS = np.linspace(0, 255, 9).round().astype(int).tolist()
# Weights of red, green and blue in the distance of two colours, roughly as the eye sees it.
_WEIGHTS = np.array([2.0, 4.0, 3.0])


def choose_colours(count: int, taken: Sequence[Sequence[int]]) -> list[Colour]:
    """Chooses colours one by one, each as far as possible from all before it.

    Args:
      count: number of colours, at most 255.
      taken: colours in use; the chosen colours are far from these, too.
    """
    candidates = np.array(list(itertools.product(_LEVELS, repeat=3)))
    chosen: list[Colour] = []
    nearest = np.full(len(candidates), np.inf)
    for colour in (*_RESERVED, *taken):
        nearest = np.minimum(nearest, _distances(candidates, colour))
    for _ in range(count):
        red, green, blue = candidates[int(np.argmax(nearest))].tolist()
        chosen.append((red, green, blue))
        nearest = np.minimum(nearest, _distances(candidates, chosen[-1]))
    return chosen


def _distances(candidates: np.ndarray, colour: Sequence[int]) -> np.ndarray:
    return ((candidates - np.array(colour)) ** 2 * _WEIGHTS).sum(axis=1)
