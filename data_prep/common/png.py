"""PNG files in memory."""

from collections.abc import Sequence

import cv2
import numpy as np


def encode_png(pixels: np.ndarray, settings: Sequence[int] = ()) -> bytes:
    """PNG file of [H, W] or [H, W, 3] (RGB) uint8 pixels, with OpenCV's settings of the format.

    OpenCV's own choice filters every row by the pixel to its left. Training decodes a street scene
    of 512x1024 in 12 ms then, and in 19 ms where each row has the filter that compresses it best,
    for 0.65 and 0.59 MB.
    """
    ordered = pixels[:, :, ::-1] if pixels.ndim == 3 else pixels
    done, png = cv2.imencode(".png", np.ascontiguousarray(ordered), settings)
    assert done
    return png.tobytes()
