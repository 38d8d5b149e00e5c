"""Files that hold several pictures, in the formats that can."""

import pathlib

import numpy as np
from PIL import Image

# Name of a file with several pictures -> Pillow's format.
SEVERAL = {"a.gif": "GIF", "b.webp": "WEBP", "c.tif": "TIFF", "d.png": "PNG", "e.avif": "AVIF"}


def make_pictures(count: int, height: int = 32, width: int = 48) -> list[Image.Image]:
    """Images of one colour each, which survives compression and palettes."""
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (30, 200, 200)]
    return [
        Image.fromarray(np.full((height, width, 3), colours[number], np.uint8))
        for number in range(count)
    ]


def save_pictures(path: pathlib.Path, count: int, kind: str | None = None) -> np.ndarray:
    """Writes images into one file; returns their colours, [count, 3]."""
    first, *others = make_pictures(count)
    first.save(path, kind or SEVERAL.get(path.name), save_all=True, append_images=others)
    return np.array([np.asarray(image)[0, 0] for image in (first, *others)])
