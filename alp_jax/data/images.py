"""Decodes image files to 8-bit RGB, in the same way for preparation and prediction.

Synopsis:

  pixels = decode_rgb(path.read_bytes())    # [H, W, 3] uint8
"""

import io
import warnings

import cv2
import numpy as np
from PIL import Image, ImageOps

from alp_jax.data import orientation
from alp_jax.data.intensity import CHOICES, Intensity, LossError, reduce

# File endings that count as images when a folder is read.
ENDINGS = ("png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp")
PNG_GREY, PNG_RGB, PNG_PALETTE = 0, 2, 3

_BITS_PER_SAMPLE = 258  # A tag of TIFF.
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class ImageError(ValueError):
    """A file cannot be read as an image.

    Attributes:
      reason: completes "FILE ...".
      remedy: what to do; empty if it is not known. The message has both.
    """

    def __init__(self, reason: str, remedy: str = "") -> None:
        self.reason, self.remedy = reason, remedy
        super().__init__(f"{reason}: {remedy}" if remedy else reason)


class ImageIntensityError(ImageError):
    """An image has more values than 8 bits hold, and nobody said how they become 8 bits."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, f"say how 16 bits become 8 with --intensity: {CHOICES}")


def describe_png(data: bytes) -> tuple[int, int] | None:
    """Returns (bits per channel, colour type) of a PNG file; None for any other file.

    Pillow silently reduces 16 bits to 8, and stretches fewer than 8.
    """
    return (data[24], data[25]) if data.startswith(_PNG_SIGNATURE) and len(data) > 25 else None


def open_image(data: bytes) -> Image.Image:
    """Decodes a whole image file.

    Raises:
      ImageError: if it is truncated, damaged, not an image, or too large to be decoded safely.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            image.load()
            return image
    except Exception as error:  # Codecs raise many types.
        message = str(error).split(" <_io")[0].splitlines() or [type(error).__name__]
        raise ImageError(f"cannot be decoded ({message[0].rstrip('.')})") from error


def is_plain_rgb(data: bytes, image: Image.Image, *, upright: bool) -> bool:
    """Returns whether every decoder gives the same 8-bit RGB for a file.

    Args:
      data: content of the file.
      image: the decoded file.
      upright: whether images are rotated by their EXIF orientation.
    """
    if upright and image.getexif().get(orientation.TAG, 1) != 1:
        return False
    if image.format == "JPEG":
        return image.mode == "RGB"
    return describe_png(data) == (8, PNG_RGB) and "transparency" not in image.info


def to_rgb(
    data: bytes, image: Image.Image, *, upright: bool, intensity: Intensity | None = None
) -> np.ndarray:
    """Converts a decoded file of any mode to RGB: [H, W, 3] uint8.

    Transparency is dropped, 16 bits become 8. Takes the arguments of `is_plain_rgb`, and how 16
    bits become 8.

    Raises:
      ImageIntensityError: if 8 bits would lose values, and `intensity` is not given.
      ImageError: if the image has 32 bits per channel.
    """
    if image.format == "JPEG" and is_plain_rgb(data, image, upright=upright):
        # TFDS decodes the JPEG files of prepared records with OpenCV, which may round differently.
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        return np.ascontiguousarray(decoded[:, :, ::-1])
    if has_16_bits(data, image):
        try:
            pixels = reduce(read_16_bits(data, image), intensity)
        except LossError as error:
            raise ImageIntensityError(str(error)) from error
        if upright:
            pixels = orientation.turn(pixels, image.getexif().get(orientation.TAG, 1))
        return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    if upright:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F"):
        raise ImageError(
            "holds 32-bit values, but 8 or 16 bits per channel are read",
            "convert it to a 16-bit PNG or TIFF file",
        )
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # Pillow's way for palettes with transparency.
    return np.asarray(image.convert("RGB"))


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


def decode_rgb(data: bytes, intensity: Intensity | None = None) -> np.ndarray:
    """Decodes a file to upright RGB, [H, W, 3] uint8: the pixels that preparation would store.

    Args:
      data: content of the file.
      intensity: how 16 bits become 8; None: they do only where nothing is lost.
    Raises:
      ImageError: if the file cannot be read as an image.
    """
    return to_rgb(data, open_image(data), upright=True, intensity=intensity)
