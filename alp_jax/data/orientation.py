"""Reads the EXIF orientation of image files, and turns pixels by it.

Synopsis:

  upright = turn(pixels, find_tag(image))    # as the image is shown

1 is upright; 2 to 4 are mirrored or upside down; 5 to 8 have height and width exchanged.
"""

import numpy as np
from PIL import Image

UPRIGHT = 1
_TAG = 0x0112


def find_tag(image: Image.Image) -> int:
    """Returns the EXIF orientation of an image, 1 to 8; 1 if it has none.

    Once the pixels of a TIFF file are decoded, Pillow has turned them, and it has none any more.
    """
    tag = image.getexif().get(_TAG, UPRIGHT)
    return tag if tag in range(1, 9) else UPRIGHT


def is_turned_when_decoded(data: bytes) -> bool:
    """Returns whether decoders apply the orientation themselves, which they do for TIFF."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def exchanges_sides(tag: int) -> bool:
    """Returns whether an image with this orientation is shown with height and width exchanged."""
    return tag >= 5


def turn(pixels: np.ndarray, tag: int) -> np.ndarray:
    """Turns [H, W, ...] pixels by an EXIF orientation, as they are to be shown."""
    if exchanges_sides(tag):
        pixels = np.swapaxes(pixels, 0, 1)
    if tag in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if tag in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
