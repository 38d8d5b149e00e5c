"""Resizes, pads, crops and mirrors a training image and its label, as CRST's published code does.

Synopsis:

  image, label = Cropping(settings, fill=(123, 117, 104)).apply(image, label, rng, mined=(16, 17))

Code: yzou2/CRST, deeplab/datasets.py, `SrcSTDataSet` and `GTA5StMineDataSet`. Deviation: there
images are padded with 0 after the mean is subtracted; here before, with `fill`, the mean in whole
grey levels.
"""

import dataclasses

import cv2
import numpy as np

from alp_jax.data.labels import IGNORE_LABEL
from alp_jax.self_training.settings import SCALES_PER_UNIT, RoundsSettings

Pair = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Cropping:
    """Makes an image of `crop_size` from one of any size.

    Attributes:
      settings: `config.rounds`.
      fill: red, green and blue of padding, 0 to 255.
    """

    settings: RoundsSettings
    fill: tuple[int, int, int]

    def apply(
        self,
        image: np.ndarray,
        label: np.ndarray,
        rng: np.random.Generator,
        *,
        mined: tuple[int, ...] = (),
    ) -> Pair:
        """Resizes by a random factor, pads, crops at random or around a rare class, and mirrors.

        Args:
          image: [H, W, 3] uint8.
          label: [H, W] uint8 classes or IGNORE_LABEL.
          rng: draws, in this order: factor, whether to mine, class and pixel, or else row and
            column; whether to mirror.
          mined: classes to mine.
        Returns:
          (image, label) of `crop_size`.
        """
        settings = self.settings
        image, label = scale_pair(image, label, draw_scale(settings.scale_range, rng))
        image, label = pad_pair(image, label, settings.crop_size, self.fill)
        wants_mining = rng.random() < settings.mining_probability
        here = np.intersect1d(label, mined) if wants_mining else np.empty(0, int)
        if here.size:
            row, column = draw_pixel(label, int(rng.choice(here)), rng)
            top, left = center_crop(row, column, label.shape, settings.crop_size)
        else:
            top, left = (
                int(rng.integers(length - side + 1))
                for length, side in zip(label.shape, settings.crop_size, strict=True)
            )
        height, width = settings.crop_size
        cut = slice(top, top + height), slice(left, left + width)
        image, label = image[cut], label[cut]
        if rng.random() < settings.mirror_probability:
            image, label = image[:, ::-1], label[:, ::-1]
        return image, label


def draw_scale(scale_range: tuple[float, float], rng: np.random.Generator) -> float:
    """Draws one of the factors low, low + 0.1, ..., high."""
    low, high = scale_range
    number = round((high - low) * SCALES_PER_UNIT)
    return low + int(rng.integers(number + 1)) / SCALES_PER_UNIT


def scale_pair(image: np.ndarray, label: np.ndarray, factor: float) -> Pair:
    """Resizes an image bilinearly, not antialiased, and its label by nearest neighbour."""

    def resize(array: np.ndarray, interpolation: int) -> np.ndarray:
        return cv2.resize(array, None, fx=factor, fy=factor, interpolation=interpolation)

    return resize(image, cv2.INTER_LINEAR), resize(label, cv2.INTER_NEAREST)


def pad_pair(
    image: np.ndarray, label: np.ndarray, size: tuple[int, int], fill: tuple[int, int, int]
) -> Pair:
    """Pads an image with a colour and its label with IGNORE_LABEL, below and on the right."""
    rows, columns = (max(side - length, 0) for side, length in zip(size, label.shape, strict=True))
    if not (rows or columns):
        return image, label
    borders = (0, rows, 0, columns, cv2.BORDER_CONSTANT)
    return (
        cv2.copyMakeBorder(image, *borders, value=fill),
        cv2.copyMakeBorder(label, *borders, value=IGNORE_LABEL),
    )


def draw_pixel(label: np.ndarray, wanted: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draws (row, column) of one of the pixels of a class that the label has."""
    rows, columns = np.nonzero(label == wanted)
    chosen = int(rng.integers(len(rows)))
    return int(rows[chosen]), int(columns[chosen])


def center_crop(
    row: int, column: int, size: tuple[int, ...], crop_size: tuple[int, int]
) -> tuple[int, int]:
    """Returns (top, left) of the crop around a pixel, moved as far as it must to lie inside.

    Published code gives the same for even sides; for odd ones it leaves the image at its end.
    """
    top, left = (
        min(max(at - side // 2, 0), length - side)
        for at, length, side in zip((row, column), size, crop_size, strict=True)
    )
    return top, left
