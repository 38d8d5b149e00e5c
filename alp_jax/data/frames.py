"""Finds and reads the images to predict: files of a folder or pattern, or frames of a video.

Synopsis:

  frames = find_frames("camera/*.jpg")      # or a folder, one image, a video
  for frame in frames:
      pixels = frame.read()                 # [H, W, 3] uint8 RGB, or ImageError
  frames.passed_over                        # what is in the input and is not among them

A file with several pictures (GIF, APNG, TIFF, WebP, AVIF) is read like a video.
"""

import dataclasses
import functools
import glob
import os
import pathlib
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import numpy as np

from alp_jax.data import images, opening, videos, walk
from alp_jax.data.image_files import ImageError
from alp_jax.data.intensity import Intensity
from alp_jax.data.patterns import split_pattern
from alp_jax.data.videos import ENDINGS as VIDEO_ENDINGS
from alp_jax.data.videos import is_video
from alp_jax.data.walk import PassedOver
from alp_jax.errors import UserError, describe, printable

# Kinds of what is passed over, besides those of walk.
OTHER_ENDING = "not images or videos by their ending"
FURTHER_PICTURES = "further pictures in files of which the main one is taken"
NOT_SEARCHED = "folders that the pattern does not search"

_TRIED_ENDINGS = (*images.ENDINGS, *images.UNREAD_ENDINGS)
_EXPECTED = f"images ({', '.join(images.ENDINGS)}) or videos ({', '.join(VIDEO_ENDINGS)})"
_THREADS = 8  # That look into files; on a network drive each look waits.


@dataclasses.dataclass(frozen=True)
class Frame:
    """One image, not read yet.

    Attributes:
      name: path below the input, without ending; its outputs have this name.
      source: name in messages.
      read: decodes it to [H, W, 3] uint8 RGB, or raises ImageError.
    """

    name: str
    source: str
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class InputFile:
    """An image or video.

    Attributes:
      path: of the file.
      pictures: frames of an image file that are pictures of their own; empty for a video.
      total: number of pictures; for a video, the number in its header.
      num_further: number of previews and smaller copies in the file.
    """

    path: pathlib.Path
    pictures: tuple[int, ...] = (0,)
    total: int = 1
    num_further: int = 0


@dataclasses.dataclass(frozen=True)
class Frames:
    """All frames of an input, in order; a video is decoded during iteration.

    Attributes:
      root: folder that names are relative to.
      files: images and videos.
      passed_over: what is in the input and is not among the files.
      max_pixels: most pixels that an image may have; None: `pixel_limit()`.
      intensity: how images of more than 8 bits become 8; None: only if they lose nothing.
    """

    root: pathlib.Path
    files: Sequence[InputFile]
    passed_over: Sequence[PassedOver] = ()
    max_pixels: int | None = None
    intensity: Intensity | None = None

    @property
    def total(self) -> int:
        """Number of frames, as far as headers tell."""
        return sum(file.total for file in self.files)

    def __iter__(self) -> Iterator[Frame]:
        for file in self.files:
            name = file.path.relative_to(self.root).with_suffix("").as_posix()
            source = printable(str(file.path))
            if not file.pictures:
                yield from _number(name, source, videos.decode(file.path))
            elif len(file.pictures) > 1:
                yield from _number(name, source, self._read_pictures(file))
            else:
                yield Frame(name, source, functools.partial(self._read_image, file.path))

    def _read_image(self, path: pathlib.Path) -> np.ndarray:
        return images.decode_rgb(
            _read_bytes(path), max_pixels=self.max_pixels, intensity=self.intensity
        )

    def _read_pictures(self, file: InputFile) -> Iterator[np.ndarray]:
        yield from images.decode_pictures(
            _read_bytes(file.path),
            file.pictures,
            max_pixels=self.max_pixels,
            intensity=self.intensity,
        )


def find_frames(
    pattern: str | os.PathLike[str],
    *,
    max_pixels: int | None = None,
    intensity: Intensity | None = None,
) -> Frames:
    """Finds the images of an input.

    Args:
      pattern: a folder, searched for images and videos with its subfolders; an image; a video; or a
        pattern of images and videos (`*`, `?`, `**`).
      max_pixels: most pixels that an image may have; None: `pixel_limit()`.
      intensity: how images of more than 8 bits become 8; None: only if they lose nothing.
    Raises:
      UserError: if there is no image.
    """
    given = os.fspath(pattern)
    path = pathlib.Path(os.path.expanduser(given))
    passed_over: list[PassedOver] = []
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        root, paths, passed_over = _search_pattern(given)
    except OSError as error:
        raise UserError(f"The input {given!r} cannot be read ({describe(error)}).") from error
    else:
        if stat.S_ISDIR(mode):
            root = path
            paths, passed_over = _search_folder(root, given)
        elif stat.S_ISREG(mode):
            root, paths = path.parent, [path]
        else:
            raise UserError(
                f"The input {given!r} is neither a file nor a folder: expected {_EXPECTED}."
            )
    with ThreadPoolExecutor(_THREADS) as pool:
        files = list(pool.map(_look, paths))
    for file in files:
        if file.num_further:
            relative = file.path.relative_to(root).as_posix()
            reason = f"holds {file.num_further} previews or smaller copies, which are not taken"
            passed_over.append(PassedOver(relative, FURTHER_PICTURES, reason))
    return Frames(root, files, passed_over, max_pixels, intensity)


def _search_folder(root: pathlib.Path, given: str) -> tuple[list[pathlib.Path], list[PassedOver]]:
    listing = walk.walk(root)
    passed_over = list(listing.passed_over)
    found = []
    for file in sorted(listing.files, key=lambda file: file.parts):
        path = root / file.path
        if path.suffix.lower().removeprefix(".") in _TRIED_ENDINGS or is_video(path):
            found.append(path)
        else:
            passed_over.append(PassedOver(file.path, OTHER_ENDING, "is no image or video"))
    if not found:
        there = "; ".join(walk.count_passed_over(passed_over)) or "it is empty"
        raise UserError(
            f"The input {given!r} has no image or video ({there}): expected {_EXPECTED}."
        )
    return found, passed_over


def _search_pattern(given: str) -> tuple[pathlib.Path, list[pathlib.Path], list[PassedOver]]:
    root, pattern = split_pattern(given)
    if not glob.has_magic(given) or not root.is_dir():
        missing = os.fspath(root) if glob.has_magic(given) else os.path.expanduser(given)
        what = "is a link to nothing" if os.path.islink(missing) else "does not exist"
        folder = "" if missing == given else f", because {missing!r} {what}"
        raise UserError(
            f"The input {given!r} {'cannot be read' if folder else what}{folder}: expected a "
            "folder, an image, a video, or a pattern in quotes such as 'frames/*.png'."
        )
    listing = walk.walk(root, enters=pattern.may_match_below)
    found = [file for file in listing.files if pattern.matches(file.parts)]
    found.sort(key=lambda file: file.parts)
    passed_over = [
        one
        for one in listing.passed_over
        if pattern.matches(one.parts) or pattern.may_match_below(one.parts)
    ]
    passed_over += [
        PassedOver(folder, NOT_SEARCHED, "is a folder, which the pattern does not search")
        for folder in listing.not_entered
        if pattern.matches(walk.split(folder))
    ]
    if not found:
        there = "; ".join(walk.count_passed_over(passed_over)) or "nothing of that name"
        raise UserError(
            f"No file matches the input {given!r} ({there}): expected a pattern of {_EXPECTED}."
        )
    return root, [root / file.path for file in found], passed_over


def _look(path: pathlib.Path) -> InputFile:
    """Finds out how many pictures a file has; whether they can be read is seen later."""
    if is_video(path):
        return InputFile(path, (), videos.count_frames(path))
    try:
        with path.open("rb") as file:
            image = opening.open_header(file)
            pictures, num_further = opening.list_pictures(image)
            return InputFile(path, tuple(pictures), len(pictures), num_further)
    except (ImageError, OSError):
        return InputFile(path)


def _number(name: str, source: str, pictures: Iterator[np.ndarray]) -> Iterator[Frame]:
    """Names the pictures of one file; an early end yields one more frame, whose `read` fails."""
    number = 0
    try:
        for number, pixels in enumerate(pictures, start=1):
            yield Frame(
                f"{name}/{number:06d}",
                f"{source}, frame {number}",
                functools.partial(np.asarray, pixels),
            )
    except ImageError as error:
        yield Frame(name, source, functools.partial(_fail, str(error)))


def _fail(reason: str) -> NoReturn:
    raise ImageError(reason)


def _read_bytes(path: pathlib.Path) -> bytes:
    if path.suffix.lower().removeprefix(".") in images.RAW_ENDINGS:
        raise ImageError("is a camera's raw file, which is not read", "develop it to PNG or JPEG")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read ({describe(error)})") from error
