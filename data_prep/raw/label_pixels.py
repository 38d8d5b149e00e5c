"""Reads the values or colours of label images exactly as they are stored."""

import dataclasses

import numpy as np
from PIL import Image

from alp_jax.data.image_files import ImageError
from alp_jax.data.intensity import has_16_bits, read_16_bits
from data_prep.raw.images import PNG_GREY, describe_png, open_image, refuse
from data_prep.raw.labels import WRONG_FORMAT
from data_prep.raw.layout import FaultError

_EXACT_FORMATS = ("PNG", "TIFF", "BMP")
_COLOUR_MODES = ("LA", "RGB", "RGBA", "RGBX")
_BITS_PER_SAMPLE = 258  # A tag of TIFF.


@dataclasses.dataclass(frozen=True)
class Values:
    """Values of a label image.

    Attributes:
        pixels: [H, W] int32.
        bits: bits per pixel. With fewer than 8, other programs show the values stretched to 255.
    """

    pixels: np.ndarray
    bits: int = 8


def open_label(data: bytes) -> Image.Image:
    """Decodes a label image.

    Raises:
        FaultError: if it cannot be decoded, or its format does not keep values exactly.
    """
    image = open_image(data)
    if image.format not in _EXACT_FORMATS:
        raise FaultError(
            WRONG_FORMAT,
            f"is a {image.format} file, which may not keep values exactly",
            remedy=f"convert the original labels to PNG (or {', '.join(_EXACT_FORMATS[1:])})",
        )
    return image


def read_values(data: bytes, image: Image.Image) -> Values:
    """Reads a palette image (the indices), a grey one, or three channels that are all the same.

    Raises:
        FaultError: if the file has another mode, or its channels differ.
    """
    bits = _count_bits(data, image)
    if image.mode == "1":
        return Values(np.asarray(image).astype(np.int32), 1)
    if image.mode == "L" and bits < 8:  # Pillow has stretched them.
        return Values(np.asarray(image).astype(np.int32) // (255 // (2**bits - 1)), bits)
    if image.mode in ("L", "P") or image.mode.startswith("I;16"):
        return Values(np.asarray(image).astype(np.int32))
    if image.mode in _COLOUR_MODES:
        return Values(_read_equal_channels(data, image))
    raise FaultError(
        WRONG_FORMAT,
        f"has the mode {image.mode}, but values are read from palette or grey images of up to 16 "
        "bits",
        remedy="convert it to such a PNG file",
    )


def read_colours(data: bytes, image: Image.Image) -> np.ndarray:
    """Reads colours, of a palette image those of its palette, as 0xRRGGBB: [H, W] int32.

    Raises:
        FaultError: if the file has more than 8 bits per channel.
    """
    if image.mode[0] in "IF" or has_16_bits(data, image):
        raise FaultError(
            WRONG_FORMAT,
            "has more than 8 bits per channel, but the label map has colours of 8",
            remedy="convert it to 8 bits, or write values into the label map if it is grey",
        )
    image = image.convert("RGBA") if image.mode in ("P", "PA") else image
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), np.int32), 2, 0)
    return red << 16 | green << 8 | blue


def _count_bits(data: bytes, image: Image.Image) -> int:
    """Returns the bits per pixel of a grey PNG or TIFF file; 8 for any other."""
    png = describe_png(data)
    if png is not None:
        return png[0] if png[1] == PNG_GREY else 8
    return int(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))[0])


def _read_equal_channels(data: bytes, image: Image.Image) -> np.ndarray:
    channels = np.asarray(image)
    num_colours = 1 if image.mode == "LA" else 3
    if image.mode in ("LA", "RGBA") and (channels[:, :, num_colours] < 255).any():
        raise FaultError(
            WRONG_FORMAT, "has transparent pixels", remedy="save it without transparency"
        )
    channels = channels[:, :, :num_colours]
    if has_16_bits(data, image):
        try:
            channels = np.atleast_3d(read_16_bits(data, image))
        except ImageError as error:
            raise refuse(WRONG_FORMAT, error) from error
    if (channels != channels[:, :, :1]).any():
        raise FaultError(
            WRONG_FORMAT,
            "is a colour image, but values are expected",
            remedy="say what its colours mean with colours as keys of the --label_map",
        )
    return channels[:, :, 0].astype(np.int32)
