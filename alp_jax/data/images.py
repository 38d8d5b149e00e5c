"""Decodes image files to 8-bit RGB, in the same way for preparation and prediction.

Synopsis:

  pixels = decode_rgb(path.read_bytes())    # [H, W, 3] uint8
"""

import contextlib
import io
import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

# File endings that count as images when a folder is read.
ENDINGS = ("png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "gif", "avif")
# Of raw files of cameras, of which Pillow would read the small preview.
RAW_ENDINGS = ("dng", "nef", "nrw", "cr2", "cr3", "arw", "raf", "orf", "rw2", "pef", "srw")
MAX_PIXELS = 89_478_485  # Pillow's own limit; a file of few bytes can unpack to any size.
PNG_GREY, PNG_RGB, PNG_PALETTE = 0, 2, 3

_limit: int | None = None
_EXIF_ORIENTATION = 0x0112
_TIFF_NEW_SUBFILE_TYPE, _TIFF_BITS_PER_SAMPLE = 254, 258
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class ImageError(ValueError):
    """A file cannot be read as an image; the message completes "FILE ..."."""


def describe_png(data: bytes) -> tuple[int, int] | None:
    """Returns (bits per channel, colour type) of a PNG file; None for any other file.

    Pillow silently reduces 16 bits to 8, and stretches fewer than 8.
    """
    return (data[24], data[25]) if data.startswith(_PNG_SIGNATURE) and len(data) > 25 else None


@contextlib.contextmanager
def limiting_pixels(number: int | None) -> Iterator[None]:
    """Sets how many pixels an image may have where a call gives no limit; None changes nothing."""
    global _limit
    outer = _limit
    _limit = outer if number is None else number
    try:
        yield
    finally:
        _limit = outer


def pixel_limit() -> int:
    """Returns how many pixels an image may have where a call gives no limit."""
    return MAX_PIXELS if _limit is None else _limit


def open_image(data: bytes, *, max_pixels: int | None = None) -> Image.Image:
    """Decodes a whole image file that holds one picture.

    Args:
      data: content of the file.
      max_pixels: most pixels that are decoded; None: `pixel_limit()`.
    Raises:
      ImageError: if it is truncated, damaged, not an image, too large, or holds several pictures.
    """
    with _decoding():
        image = open_header(io.BytesIO(data), max_pixels=max_pixels)
        pictures, _ = list_pictures(image)
        if len(pictures) > 1:
            raise ImageError(
                f"holds {len(pictures)} pictures, of which only one could be taken: save each as a "
                "file of its own"
            )
        _seek(image, pictures[0])
        _check_size(image, max_pixels)
        _load(image)
        return image


def open_header(file: BinaryIO, *, max_pixels: int | None = None) -> Image.Image:
    """Opens an image file and reads its size; pixels are decoded later.

    Raises:
      ImageError: as for `open_image`.
    """
    with _decoding():
        prefix = file.read(16)
        try:
            with _without_pillows_limit():
                image = Image.open(file)
        except UnidentifiedImageError as error:
            raise ImageError(_explain_unknown(prefix)) from error
        _check_size(image, max_pixels)
        return image


def list_pictures(image: Image.Image) -> tuple[list[int], int]:
    """Lists the frames of a file that are pictures of their own.

    Returns:
      (indices of such frames, number of all others): smaller copies and masks of another page of a
      TIFF file, and the previews and gain maps that cameras put behind a JPEG picture.
    Raises:
      ImageError: if the file is damaged.
    """
    with _decoding():
        number = getattr(image, "n_frames", 1)
        if image.format == "MPO":
            return [0], number - 1
        frames = list(range(number))
        if image.format == "TIFF" and number > 1:
            frames = [frame for frame in frames if not _is_copy(image, frame)] or [0]
            _seek(image, 0)
        return frames, number - len(frames)


def _load(image: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        assert isinstance(image, ImageFile.ImageFile)
        with _without_pillows_limit():  # Of TIFF files, Pillow compares the tiles once more.
            image.load_prepare()
    image.load()


def _seek(image: Image.Image, frame: int) -> None:
    with _without_pillows_limit():
        image.seek(frame)


def _is_copy(image: Image.Image, frame: int) -> bool:
    _seek(image, frame)
    kind = image.tag_v2.get(_TIFF_NEW_SUBFILE_TYPE, 0)  # type: ignore[attr-defined]
    return bool(kind & 0b101)  # A smaller copy or a transparency mask.


def decode_pictures(
    data: bytes, pictures: Sequence[int], *, max_pixels: int | None = None
) -> Iterator[np.ndarray]:
    """Yields pictures of a file that holds several as upright RGB, [H, W, 3] uint8.

    Raises:
      ImageError: at a picture that cannot be read.
    """
    image = open_header(io.BytesIO(data), max_pixels=max_pixels)
    for index, picture in enumerate(pictures, start=1):
        try:
            with _decoding():
                _seek(image, picture)
                _check_size(image, max_pixels)
                _check_depth(data, image)
                _load(image)
                pixels = to_rgb(data, image, upright=True)
        except ImageError as error:
            raise ImageError(f"{error}, at picture {index} of {len(pictures)}") from error
        yield pixels


def _check_depth(data: bytes, image: Image.Image) -> None:
    """Refuses 16-bit colours: Pillow reduces them, and OpenCV reads the first picture only."""
    png = describe_png(data)
    tags = getattr(image, "tag_v2", {})
    bits = png[0] if png else max(tags.get(_TIFF_BITS_PER_SAMPLE, (8,)))
    if bits > 8 and not image.mode.startswith(("I", "F")):
        raise ImageError(
            f"holds several pictures of {bits} bits per channel: save each as a file of its own"
        )


def _check_size(image: Image.Image, max_pixels: int | None) -> None:
    limit = pixel_limit() if max_pixels is None else max_pixels
    pixels = image.width * image.height
    if pixels > limit:
        raise ImageError(
            f"is {image.height}x{image.width} (height x width), {_millions(pixels)} megapixels, "
            f"more than the {_millions(limit)} that are read: give "
            f"--max_megapixels={math.ceil(pixels / 1e6)} if that is right"
        )


@contextlib.contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Lifts Pillow's limit of pixels, which the whole process has, while a header is read.

    An image that Pillow refuses has no size to compare or to tell.
    """
    with _HEADER_LOCK:
        outer, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = outer


def _explain_unknown(prefix: bytes) -> str:
    brand = prefix[8:12] if prefix[4:8] == b"ftyp" else b""
    if brand in _HEIF_BRANDS or brand == b"avif":
        kind = "an AVIF" if brand == b"avif" else "a HEIC"
        return f"is {kind} image, which is not read here: convert it to PNG or JPEG"
    return "cannot be decoded (cannot identify image file)"


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    """Turns whatever a codec raises into an ImageError, and keeps its warnings quiet."""
    try:
        with _QUIET:
            yield
    except ImageError:
        raise
    except Exception as error:  # Codecs raise many types.
        message = str(error).split(" <_io")[0].splitlines() or [type(error).__name__]
        raise ImageError(f"cannot be decoded ({message[0].rstrip('.')})") from error


class _Quiet:
    """Ignores warnings while any thread is inside; catch_warnings itself is not for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._outer: warnings.catch_warnings[None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._outer = warnings.catch_warnings()
                self._outer.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._outer is not None:
                self._outer.__exit__(None, None, None)


_QUIET = _Quiet()
_HEADER_LOCK = threading.Lock()


def _millions(pixels: int) -> str:
    return f"{pixels / 1e6:,.0f}" if pixels >= 1e6 else f"{pixels / 1e6:.3g}"


def is_plain_rgb(data: bytes, image: Image.Image, *, upright: bool) -> bool:
    """Returns whether every decoder gives the same 8-bit RGB for a file.

    Args:
      data: content of the file.
      image: the decoded file.
      upright: whether images are rotated by their EXIF orientation.
    """
    if upright and image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
        return False
    if image.format == "JPEG":
        return image.mode == "RGB"
    return describe_png(data) == (8, PNG_RGB) and "transparency" not in image.info


def to_rgb(data: bytes, image: Image.Image, *, upright: bool) -> np.ndarray:
    """Converts a decoded file of any mode to RGB: [H, W, 3] uint8.

    Transparency is dropped, 16 bits become 8. Takes the arguments of `is_plain_rgb`.

    Raises:
      ImageError: if the image has 32 bits per channel.
    """
    if image.format == "JPEG" and is_plain_rgb(data, image, upright=upright):
        # TFDS decodes the JPEG files of prepared records with OpenCV, which may round differently.
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        return np.ascontiguousarray(decoded[:, :, ::-1])
    if upright:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ImageError("holds 32-bit values, but 8 or 16 bits per channel are read")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # Pillow's way for palettes with transparency.
    return np.asarray(image.convert("RGB"))


def decode_rgb(data: bytes, *, max_pixels: int | None = None) -> np.ndarray:
    """Decodes a file to upright RGB, [H, W, 3] uint8: the pixels that preparation would store.

    Takes the arguments of `open_image`.

    Raises:
      ImageError: if the file cannot be read as an image.
    """
    image = open_image(data, max_pixels=max_pixels)
    with _decoding():
        return to_rgb(data, image, upright=True)
