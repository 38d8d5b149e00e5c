"""Reads image values of 16 bits, and reduces them to 8 bits in a way that the user chooses.

Synopsis:

  intensity = parse_intensity("7000,8200")
  if has_16_bits(data, image):              # the decoded image of Pillow
      pixels = reduce(read_16_bits(data, image), intensity)    # uint16 -> uint8
"""

import dataclasses
import re

import cv2
import numpy as np
from PIL import Image

from alp_jax.data.image_files import ImageError, describe_png
from alp_jax.errors import UserError

CHOICES = (
    "MIN,MAX (these values become 0 and 255), range (the lowest and highest value of each image "
    "become 0 and 255) or full (0 and 65535 do)"
)
_MAX = 65_535
_BITS_PER_SAMPLE = 258  # A tag of TIFF.


@dataclasses.dataclass(frozen=True)
class Intensity:
    """Which values become black and white.

    Attributes:
      text: as it is written: "full", "range" or "MIN,MAX".
      limits: the two values; None: those of "full" or "range".
    """

    text: str
    limits: tuple[int, int] | None = None


class LossError(ImageError):
    """8 bits would lose values, and no way was chosen."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, f"say how 16 bits become 8 with --intensity: {CHOICES}")


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


def has_16_bits(data: bytes, image: Image.Image) -> bool:
    """Returns whether a decoded file has 9 to 16 bits per channel; Pillow reduces colours to 8."""
    png = describe_png(data)
    if png is not None:
        return png[0] == 16
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, ())
    return image.mode.startswith("I;16") or (image.mode not in "IF" and max(bits, default=8) > 8)


def read_16_bits(data: bytes, image: Image.Image) -> np.ndarray:
    """Reads the values of a file with 16 bits per channel, without transparency.

    Returns:
      [H, W] or, for colours, [H, W, 3] (RGB) uint16, not turned by an EXIF orientation.
    Raises:
      ImageError: if they cannot be read.
    """
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    known = image.mode in ("L", "LA", "RGB", "RGBA", "RGBX")
    sizes = None if decoded is None else (decoded.dtype, *decoded.shape[:2])
    if decoded is None or not known or sizes != (np.uint16, image.height, image.width):
        raise ImageError(
            f"holds more than 8 bits per channel in the mode {image.mode} or an encoding that is "
            "not read",
            "convert it to a 16-bit PNG file of grey values or RGB",
        )
    if decoded.ndim == 2 or image.mode in ("L", "LA"):
        return decoded if decoded.ndim == 2 else np.ascontiguousarray(decoded[:, :, 0])
    return np.ascontiguousarray(decoded[:, :, 2::-1])


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


def share_outside(values: np.ndarray, intensity: Intensity | None) -> float:
    """Returns the share of values beyond the limits, which `reduce` cuts off: 0 to 1."""
    if intensity is None or intensity.limits is None:
        return 0.0
    low, high = intensity.limits
    return float(np.mean((values < low) | (values > high)))


def _check_lossless(values: np.ndarray) -> None:
    levels = np.flatnonzero(np.bincount(values.ravel(), minlength=1))
    kept = len(np.unique(levels >> 8))
    if kept < len(levels):
        low, high = int(levels[0]), int(levels[-1])
        raise LossError(
            f"has {len(levels):,} different values from {low} to {high}, of which the high byte "
            f"keeps {kept}"
        )
