"""Decodes image files to 8-bit RGB, in the same way for preparation and prediction.

Synopsis:

  pixels = decode_rgb(path.read_bytes())    # [H, W, 3] uint8
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from PIL import Image, ImageOps

from alp_jax.data import orientation
from alp_jax.data.image_files import PNG_RGB, ImageError, describe_png
from alp_jax.data.intensity import Intensity, has_16_bits, read_16_bits, reduce
from alp_jax.data.opening import decoding, open_image, open_pictures

# File endings that count as images when a folder is read.
ENDINGS = ("png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "gif", "avif")
# Of raw files of cameras, of which Pillow would read the small preview.
RAW_ENDINGS = ("dng", "nef", "nrw", "cr2", "cr3", "arw", "raf", "orf", "rw2", "pef", "srw")
# Of images that are not read.
UNREAD_ENDINGS = (*RAW_ENDINGS, "heic", "heif")


def is_plain_rgb(data: bytes, image: Image.Image, *, upright: bool) -> bool:
    """Returns whether every decoder gives the same 8-bit RGB for a file.

    Args:
      data: content of the file.
      image: the decoded file.
      upright: whether images are rotated by their EXIF orientation.
    """
    if upright and orientation.find_tag(image) != orientation.UPRIGHT:
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
      LossError: if 8 bits would lose values, and `intensity` is not given.
      ImageError: if the image has 32 bits per channel.
    """
    if image.format == "JPEG" and is_plain_rgb(data, image, upright=upright):
        # TFDS decodes the JPEG files of prepared records with OpenCV, which may round differently.
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        return np.ascontiguousarray(decoded[:, :, ::-1])
    if has_16_bits(data, image):
        pixels = reduce(read_16_bits(data, image), intensity)
        if upright:
            pixels = orientation.turn(pixels, orientation.find_tag(image))
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


def decode_rgb(
    data: bytes, *, max_pixels: int | None = None, intensity: Intensity | None = None
) -> np.ndarray:
    """Decodes a file to upright RGB, [H, W, 3] uint8: the pixels that preparation would store.

    Args:
      data: content of the file.
      max_pixels: as for `open_image`.
      intensity: how 16 bits become 8; None: they do only where nothing is lost.
    Raises:
      ImageError: if the file cannot be read as an image.
    """
    image = open_image(data, max_pixels=max_pixels)
    with decoding():
        return to_rgb(data, image, upright=True, intensity=intensity)


def decode_pictures(
    data: bytes,
    pictures: Sequence[int],
    *,
    max_pixels: int | None = None,
    intensity: Intensity | None = None,
) -> Iterator[np.ndarray]:
    """Decodes pictures of a file that holds several (`list_pictures`) like `decode_rgb`.

    Raises:
      ImageError: at a picture that cannot be read.
    """
    for image in open_pictures(data, pictures, max_pixels=max_pixels):
        with decoding():
            pixels = to_rgb(data, image, upright=True, intensity=intensity)
        yield pixels
