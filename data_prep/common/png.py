"""Encodes PNG files in memory."""

from collections.abc import Sequence

import cv2
import numpy as np


def encode_png(pixels: np.ndarray, settings: Sequence[int] = ()) -> bytes:
    """Encodes [H, W] or [H, W, 3] (RGB) uint8 pixels as PNG, with OpenCV's settings for PNG.

    By default OpenCV filters every row with the filter "sub" (difference to the pixel on the left).
    Then a street scene of 512x1024 has 0.65 MB, and training decodes it in 12 ms. With the filter
    that compresses each row best it has 0.59 MB, and takes 19 ms.
    """
    ordered = pixels[:, :, ::-1] if pixels.ndim == 3 else pixels
    done, png = cv2.imencode(".png", np.ascontiguousarray(ordered), settings)
    assert done
    return png.tobytes()
