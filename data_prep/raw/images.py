"""Decodes image files completely, to find damage, and converts them to 8-bit RGB files."""

import numpy as np
from PIL import Image

from alp_jax.data import images, opening
from alp_jax.data.image_files import PNG_GREY, PNG_PALETTE, PNG_RGB, ImageError, describe_png
from alp_jax.data.intensity import LossError, has_16_bits, read_16_bits, share_outside
from alp_jax.data.pipeline import RESAMPLING, resize
from data_prep.common.png import encode_png
from data_prep.raw.layout import REPLACE, Decoding, FaultError

__all__ = ["PNG_GREY", "PNG_PALETTE", "PNG_RGB", "describe_png", "open_image"]

OUTSIDE = "images with most values outside --intensity"
_MOST = 0.5
RESIZING_FILTER = "bicubic"  # A key of alp_jax.data.pipeline.RESAMPLING.


def open_image(data: bytes) -> Image.Image:
    """Decodes a whole image file.

    Raises:
        FaultError: if it is truncated, damaged, not an image, or too large to be decoded safely.
    """
    try:
        return opening.open_image(data)
    except ImageError as error:
        raise refuse("files that cannot be decoded", error) from error


def refuse(kind: str, error: ImageError) -> FaultError:
    """Creates the fault of a file that cannot be read as an image."""
    return FaultError(kind, error.reason, remedy=error.remedy or REPLACE)


def to_rgb_file(
    data: bytes, size: tuple[int, int] | None, decoding: Decoding
) -> tuple[bytes, tuple[int, int]]:
    """Converts an image file to an 8-bit RGB file; keeps it as it is if nothing has to change.

    Args:
        data: content of the file.
        size: (height, width) to resize to, as training does; None keeps the size.
        decoding: whether to rotate the image, and how 16 bits become 8.
    Returns:
        (file, (height, width) of the image before resizing).
    Raises:
        FaultError: if the image cannot be decoded, or cannot become 8 bits without a choice.
    """
    image = open_image(data)
    plain = images.is_plain_rgb(data, image, upright=decoding.upright)
    if plain and size in (None, (image.height, image.width)):
        return data, (image.height, image.width)
    try:
        pixels = images.to_rgb(data, image, upright=decoding.upright, intensity=decoding.intensity)
    except LossError as error:
        raise refuse("images of more than 8 bits", error) from error
    except ImageError as error:
        raise refuse("images of a wrong format", error) from error
    original = (pixels.shape[0], pixels.shape[1])
    if size is not None:
        pixels = resize(np.ascontiguousarray(pixels), size, RESAMPLING[RESIZING_FILTER])
    return encode_png(pixels), original


def describe_outside(data: bytes, decoding: Decoding) -> str:
    """Describes a decodable image with most values beyond the chosen limits; "" for any other."""
    chosen = decoding.intensity
    if chosen is None or chosen.limits is None:
        return ""
    image = open_image(data)
    if not has_16_bits(data, image):
        return ""
    values = read_16_bits(data, image)
    share = share_outside(values, chosen)
    if share <= _MOST:
        return ""
    low, high = chosen.limits
    return (
        f"has {100 * share:.1f} % of its values outside {low} to {high}, as they go from "
        f"{values.min()} to {values.max()}"
    )
