"""Opens image files with Pillow: any format, within a limit of pixels, one picture or several.

Synopsis:

  image = open_image(path.read_bytes())       # decoded, or ImageError
  with limiting_pixels(108_000_000):          # Here, larger ones are read.
      image = open_image(data)
"""

import contextlib
import io
import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

from alp_jax.data.image_files import ImageError, describe_png
from alp_jax.errors import UserError

MAX_PIXELS = 89_478_485  # Pillow's own limit; a file of few bytes can unpack to any size.

_limit: int | None = None
_TIFF_NEW_SUBFILE_TYPE, _TIFF_BITS_PER_SAMPLE = 254, 258
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis")


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
    with decoding():
        image = open_header(io.BytesIO(data), max_pixels=max_pixels)
        pictures, _ = list_pictures(image)
        if len(pictures) > 1:
            raise ImageError(
                f"holds {len(pictures)} pictures, of which only one could be taken",
                "save each as a file of its own",
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
    with decoding():
        prefix = file.read(16)
        try:
            with _without_pillows_limit():
                image = Image.open(file)
        except UnidentifiedImageError as error:
            raise _explain_unknown(prefix) from error
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
    with decoding():
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


def open_pictures(
    data: bytes, pictures: Sequence[int], *, max_pixels: int | None = None
) -> Iterator[Image.Image]:
    """Decodes pictures of a file that holds several; each is gone when the next one is taken.

    Raises:
      ImageError: at a picture that cannot be read.
    """
    image = open_header(io.BytesIO(data), max_pixels=max_pixels)
    for index, picture in enumerate(pictures, start=1):
        try:
            with decoding():
                _seek(image, picture)
                _check_size(image, max_pixels)
                _check_depth(data, image)
                _load(image)
        except ImageError as error:
            reason = f"{error.reason}, at picture {index} of {len(pictures)}"
            raise ImageError(reason, error.remedy) from error
        yield image


def _check_depth(data: bytes, image: Image.Image) -> None:
    """Refuses 16-bit colours: Pillow reduces them, and OpenCV reads the first picture only."""
    png = describe_png(data)
    tags = getattr(image, "tag_v2", {})
    bits = png[0] if png else max(tags.get(_TIFF_BITS_PER_SAMPLE, (8,)))
    if bits > 8 and not image.mode.startswith(("I", "F")):
        raise ImageError(
            f"holds several pictures of {bits} bits per channel",
            "save each as a file of its own",
        )


def _check_size(image: Image.Image, max_pixels: int | None) -> None:
    limit = pixel_limit() if max_pixels is None else max_pixels
    pixels = image.width * image.height
    if pixels > limit:
        raise ImageError(
            f"is {image.height}x{image.width} (height x width), {_millions(pixels)} megapixels, "
            f"more than the {_millions(limit)} that are read",
            f"give --max_megapixels={math.ceil(pixels / 1e6)} if that is right",
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


def _explain_unknown(prefix: bytes) -> ImageError:
    brand = prefix[8:12] if prefix[4:8] == b"ftyp" else b""
    if brand in _HEIF_BRANDS or brand == b"avif":
        kind = "an AVIF" if brand == b"avif" else "a HEIC"
        return ImageError(f"is {kind} image, which is not read here", "convert it to PNG or JPEG")
    return ImageError("cannot be decoded (cannot identify image file)")


@contextlib.contextmanager
def decoding() -> Iterator[None]:
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


def count_pixels(megapixels: float) -> int:
    """Returns the number of pixels that --max_megapixels allows.

    Raises:
      UserError: if it is no finite number above 0.
    """
    if not (math.isfinite(megapixels) and megapixels > 0):
        raise UserError(
            f"--max_megapixels is {megapixels:g}: expected a finite number above 0, such as 108."
        )
    return int(megapixels * 1e6)
