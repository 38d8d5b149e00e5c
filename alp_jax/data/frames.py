"""Finds and reads the images to predict: files of a folder or pattern, or frames of a video.

Synopsis:

  frames = find_frames("camera/*.jpg")      # or a folder, one image, a video
  for frame in frames:
      pixels = frame.read()                 # [H, W, 3] uint8 RGB, or ImageError

OpenCV decodes videos; its wheels include FFmpeg.
"""

import dataclasses
import functools
import glob
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from alp_jax.data import images
from alp_jax.data.images import ImageError
from alp_jax.errors import UserError

VIDEO_ENDINGS = ("mp4", "avi", "mov", "mkv", "webm", "m4v")


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
class Frames:
    """All frames of an input, in order; a video is decoded during iteration.

    Attributes:
      root: folder that names are relative to.
      files: images and videos.
      total: number of frames; for a video, the number in its header.
    """

    root: pathlib.Path
    files: Sequence[pathlib.Path]
    total: int

    def __iter__(self) -> Iterator[Frame]:
        for path in self.files:
            name = path.relative_to(self.root).with_suffix("").as_posix()
            if is_video(path):
                yield from _video_frames(path, name)
            else:
                yield Frame(name, str(path), functools.partial(_read_file, path))


def find_frames(pattern: str | os.PathLike[str]) -> Frames:
    """Finds the images of an input.

    Args:
      pattern: a folder, searched for images with its subfolders; an image; a video; or a pattern
        of images and videos (`*`, `?`, `**`).
    Raises:
      UserError: if there is no image.
    """
    path = pathlib.Path(pattern).expanduser()
    if path.is_dir():
        root = path
        files = sorted(p for p in path.rglob("*") if _ending(p) in images.ENDINGS and p.is_file())
        expected = f"images ({', '.join(images.ENDINGS)}) in it, or name a video itself"
    elif path.is_file():
        root, files, expected = path.parent, [path], ""
    else:
        parts = path.parts
        fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
        root = pathlib.Path(*parts[:fixed])
        found = glob.glob(str(path), recursive=True)
        files = sorted(p for p in map(pathlib.Path, found) if p.is_file())
        expected = "a folder, an image, a video, or a pattern in quotes such as 'frames/*.png'"
    if not files:
        raise UserError(f"The input {os.fspath(pattern)!r} has no image: expected {expected}.")
    return Frames(root, files, sum(_count(path) for path in files))


def is_video(path: pathlib.Path) -> bool:
    """Returns whether a file has the ending of a video."""
    return _ending(path) in VIDEO_ENDINGS


def _ending(path: pathlib.Path) -> str:
    return path.suffix.lower().removeprefix(".")


def _read_file(path: pathlib.Path) -> np.ndarray:
    try:
        return images.decode_rgb(path.read_bytes())
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or error})") from error


def _count(path: pathlib.Path) -> int:
    if not is_video(path):
        return 1
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return max(count, 1)


def _video_frames(path: pathlib.Path, name: str) -> Iterator[Frame]:
    """Decodes a video frame by frame; an early end yields one more frame, whose `read` fails."""
    expected, number = _count(path), 0
    capture = cv2.VideoCapture(str(path))
    try:
        while True:
            there, pixels = capture.read()
            if not there:
                break
            number += 1
            rgb = np.ascontiguousarray(pixels[:, :, ::-1])
            yield Frame(
                f"{name}/{number:06d}",
                f"{path}, frame {number}",
                functools.partial(np.asarray, rgb),
            )
    finally:
        capture.release()
    if number < expected:
        reason = f"ends after {number} of {expected} frames, or cannot be decoded from there"
        yield Frame(name, str(path), functools.partial(_fail, reason))


def _fail(reason: str) -> np.ndarray:
    raise ImageError(reason)
