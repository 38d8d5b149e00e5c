"""Image files: decoding all of one to be sure that it is whole, conversion to 8-bit RGB, PNG."""

import io
import warnings

import cv2
import numpy as np
from PIL import Image, ImageOps

from alp_jax.data.pipeline import RESAMPLING, resize
from data_prep.common.png import encode_png
from data_prep.raw.layout import FaultError

_EXIF_ORIENTATION = 0x0112
RESIZING_FILTER = "bicubic"  # Of alp_jax.data.pipeline.RESAMPLING.
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_GREY, PNG_RGB, PNG_PALETTE = 0, 2, 3


def describe_png(data: bytes) -> tuple[int, int] | None:
    """(bits per channel, colour type) of a PNG file; None for any other file.

    Pillow reduces 16 bits to 8 and stretches fewer than 8 without a word.
    """
    return (data[24], data[25]) if data.startswith(_PNG_SIGNATURE) and len(data) > 25 else None


def open_image(data: bytes) -> Image.Image:
    """Decodes a whole image file.

    Raises:
        FaultError: if it is cut short, damaged, not an image, or too large to be decoded safely.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
            image.load()
            return image
    except Exception as error:  # Codecs raise whatever they like.
        message = str(error).split(" <_io")[0].splitlines() or [type(error).__name__]
        reason = f"cannot be decoded ({message[0].rstrip('.')})"
        raise FaultError("files that cannot be decoded", reason) from error


def to_rgb_file(
    data: bytes, size: tuple[int, int] | None, *, upright: bool
) -> tuple[bytes, tuple[int, int]]:
    """Makes an 8-bit RGB file of an image file; the file itself where nothing has to change.

    Args:
        data: the file.
        size: (height, width) to resize to, as training does.
        upright: whether to turn the image as its EXIF orientation says.
    Returns:
        (file, (height, width) of the image before resizing).
    Raises:
        FaultError: if the image cannot be decoded, or has 32 bits per channel.
    """
    image = open_image(data)
    turned = upright and image.getexif().get(_EXIF_ORIENTATION, 1) != 1
    plain = _is_plain(data, image) and not turned
    if plain and size in (None, (image.height, image.width)):
        return data, (image.height, image.width)
    if plain and image.format == "JPEG":
        # What reads the record decodes JPEG with OpenCV, whose decoder may round differently.
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        pixels = decoded[:, :, ::-1]
    else:
        pixels = _to_rgb(ImageOps.exif_transpose(image) if turned else image)
    original = (pixels.shape[0], pixels.shape[1])
    if size is not None:
        pixels = resize(np.ascontiguousarray(pixels), size, RESAMPLING[RESIZING_FILTER])
    return encode_png(pixels), original


def _is_plain(data: bytes, image: Image.Image) -> bool:
    """Whether a file decodes to 8-bit RGB with any decoder."""
    if image.format == "JPEG":
        return image.mode == "RGB"
    return describe_png(data) == (8, PNG_RGB) and "transparency" not in image.info


def _to_rgb(image: Image.Image) -> np.ndarray:
    """[H, W, 3] uint8 of an image of any mode; transparency is dropped, 16 bits become 8."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise FaultError(
            "images of a wrong format", "holds 32-bit values, but 8 or 16 bits per channel are read"
        )
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # Pillow's way for palettes with transparency
    return np.asarray(image.convert("RGB"))
