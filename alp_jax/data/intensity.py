"""Reduces 16-bit image values to 8 bits, in a way that the user chooses.

Synopsis:

  intensity = parse_intensity("7000,8200")
  pixels = reduce(values, intensity)    # uint16 -> uint8; without a choice only if nothing is lost
"""

import dataclasses
import re

import numpy as np

from alp_jax.errors import UserError

CHOICES = (
    "MIN,MAX (these values become 0 and 255), range (the lowest and highest value of each image "
    "become 0 and 255) or full (0 and 65535 do)"
)
_MAX = 65_535


@dataclasses.dataclass(frozen=True)
class Intensity:
    """Which values become black and white.

    Attributes:
      text: as it is written: "full", "range" or "MIN,MAX".
      limits: the two values; None: those of "full" or "range".
    """

    text: str
    limits: tuple[int, int] | None = None


class LossError(ValueError):
    """8 bits would lose values, and no way was chosen; the message completes "FILE ..."."""


def parse_intensity(text: str | None) -> Intensity | None:
    """Parses the value of the flag --intensity; None, for no choice, stays None.

    Raises:
      UserError: if it is none of CHOICES.
    """
    if text is None or text in ("full", "range"):
        return None if text is None else Intensity(text)
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*,\s*([0-9]{1,5})\s*", text)
    low, high = (int(found[1]), int(found[2])) if found else (0, 0)
    if not low < high <= _MAX:
        raise UserError(
            f"intensity is {text!r}: expected {CHOICES}; write, for example, --intensity=0,4095."
        )
    return Intensity(f"{low},{high}", (low, high))


def reduce(values: np.ndarray, intensity: Intensity | None) -> np.ndarray:
    """Reduces uint16 values of any shape to uint8.

    "full" keeps the high byte; limits are mapped linearly, and values beyond them cut off.

    Raises:
      LossError: if nothing was chosen, and different values would become equal.
    """
    if intensity is None:
        _check_lossless(values)
    if intensity is None or intensity.text == "full":
        return (values >> 8).astype(np.uint8)
    low, high = intensity.limits or (int(values.min()), int(values.max()))
    inside = np.clip(values.astype(np.int64), low, high) - low
    scale = max(high - low, 1)
    return ((inside * 255 + scale // 2) // scale).astype(np.uint8)


def _check_lossless(values: np.ndarray) -> None:
    levels = np.flatnonzero(np.bincount(values.ravel(), minlength=1))
    kept = len(np.unique(levels >> 8))
    if kept < len(levels):
        low, high = int(levels[0]), int(levels[-1])
        raise LossError(
            f"has {len(levels):,} different values from {low} to {high}, of which the high byte "
            f"keeps {kept}"
        )
