"""PNG files in memory."""

from collections.abc import Sequence

import cv2
import numpy as np


def encode_png(pixels: np.ndarray, settings: Sequence[int]) -> bytes:
    """PNG file of [H, W] or [H, W, 3] (RGB) uint8 pixels, with OpenCV's settings of the format."""
    ordered = pixels[:, :, ::-1] if pixels.ndim == 3 else pixels
    done, png = cv2.imencode(".png", np.ascontiguousarray(ordered), settings)
    assert done
    return png.tobytes()
