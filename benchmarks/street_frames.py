"""Generates raw GTA5 and Cityscapes folders, with frames of the published sizes and formats.

Frames are ellipses of random classes with shading and noise. The speed of an input pipeline depends
on how well files compress. The noise is chosen so that a frame of 1024x2048 has 2.2 MB as PNG and
takes as long to decode as a frame of Cityscapes, which has 2.1 to 2.2 MB.
"""

import pathlib

import cv2
import numpy as np

from alp_jax.data.labels import load_label_set
from tests.data_prep import raw_files

SOURCE_SIZE, TARGET_SIZE = (1052, 1914), (1024, 2048)
_IDS = [c.label_id for c in load_label_set("cityscapes_19").classes]
_NUM_SHAPES = 120
# Noise of the least noisy shape, grey levels; spread of the noise's logarithm over shapes.
_QUIET, _SPREAD = 0.25, 1.0


def make_frame(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Makes a frame: image [*size, 3] uint8 and Cityscapes label ids [*size] uint8."""
    rng = np.random.default_rng(seed)
    height, width = size
    label, noise = np.full(size, _IDS[0], np.uint8), np.full(size, _QUIET, np.float32)
    for _ in range(_NUM_SHAPES):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes = int(rng.integers(8, width // 8)), int(rng.integers(8, height // 6))
        shape = (centre, axes, float(rng.uniform(0, 180)), 0, 360)
        cv2.ellipse(label, *shape, int(rng.choice(_IDS)), -1)
        cv2.ellipse(noise, *shape, _QUIET * float(np.exp(_SPREAD * abs(rng.normal()))), -1)
    image = rng.integers(20, 200, (256, 3)).astype(np.float32)[label]
    for cell, strength in ((64, 14.0), (16, 5.0)):
        shading = rng.normal(0, strength, (height // cell, width // cell, 3)).astype(np.float32)
        image += cv2.resize(shading, (width, height), interpolation=cv2.INTER_CUBIC)
    image = cv2.GaussianBlur(image, (0, 0), 1.0)
    coarse = rng.standard_normal((height // 2, width // 2), np.float32)
    grey = rng.standard_normal(size, np.float32) + cv2.resize(coarse, (width, height))
    colour = rng.standard_normal((*size, 3), np.float32)
    image += noise[..., None] * (grey[..., None] + 0.3 * colour)
    return np.clip(image, 0, 255).astype(np.uint8), label


def write(
    root: pathlib.Path, count: int, *, distinct: int, scale: int = 1
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes pairs in the published layout of both datasets, without target labels.

    Args:
      root: folder to write to.
      count: number of pairs.
      distinct: number of distinct pairs; the others repeat these in turn.
      scale: divisor of both sides.
    Returns:
      the raw folders of GTA5 and Cityscapes.
    """
    source, target = root / "gta5", root / "cityscapes"
    for seed in range(distinct):
        source_image, label = make_frame(2 * seed, _divide(SOURCE_SIZE, scale))
        target_image, _ = make_frame(2 * seed + 1, _divide(TARGET_SIZE, scale))
        image_file, label_file = raw_files.png(source_image), raw_files.palette_png(label)
        target_file = raw_files.png(target_image)
        for number in range(seed + 1, count + 1, distinct):
            names = f"images/{number:05d}.png", f"labels/{number:05d}.png"
            raw_files.write(source, dict(zip(names, (image_file, label_file), strict=True)))
            name = f"{raw_files.cityscapes_name(number)}_leftImg8bit.png"
            raw_files.write(target, {f"leftImg8bit/train/aachen/{name}": target_file})
    return source, target


def _divide(size: tuple[int, int], scale: int) -> tuple[int, int]:
    return size[0] // scale, size[1] // scale
