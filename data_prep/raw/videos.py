"""Takes every Nth frame of videos, as files that preparation can read.

Synopsis:

  frames, faults = find_frames(files, every=10)
  frames["drive/000010"].read()    # PNG file of the tenth frame

Frames are counted by decoding, because headers may be wrong, and are found by decoding from the
beginning, because jumps into a video may end at another frame.
"""

import dataclasses
import functools
import pathlib
import re

import cv2
import numpy as np

from alp_jax.data.videos import ENDINGS, open_capture
from alp_jax.errors import UserError, printable
from data_prep.common.png import encode_png
from data_prep.common.text import count
from data_prep.raw.files import RawFile, RawFiles
from data_prep.raw.layout import Fault

_VIDEO = rf"(?s:\A(?P<name>.+)\.(?i:{'|'.join(map(re.escape, ENDINGS))})\Z)"
_BYTES_PER_PIXEL = 1.5  # Of a PNG file, about.


@dataclasses.dataclass(frozen=True)
class VideoFrame(RawFile):
    """One frame of a video; its path is the video's.

    Attributes:
        number: of the frame, from 1.
    """

    number: int = 0

    def __str__(self) -> str:
        return printable(f"{self.path}, frame {self.number}")

    def read(self) -> bytes:
        """Decodes the frame to a PNG file.

        Raises:
            OSError: if the video has no such frame any more.
        """
        return encode_png(_open(self.root / self.path).read(self.number))


def find_frames(files: RawFiles, every: int) -> tuple[dict[str, RawFile], list[Fault]]:
    """Lists the frames N, 2 N, 3 N, ... of all videos as VIDEO/NUMBER, and what is wrong with them.

    Raises:
        UserError: if two videos have the same name.
    """
    frames: dict[str, RawFile] = {}
    faults: list[Fault] = []
    names: dict[str, RawFile] = {}
    for name, file in files.find_all(_VIDEO):
        if names.setdefault(name, file) != file:
            raise UserError(
                f"{names[name]} and {file} would have frames of the same names, {name}/000001: "
                "rename or remove one."
            )
        if file.archive:
            reason = "is a video inside a zip file, which is not read: extract it"
            faults.append(Fault("files that cannot be read", str(file), reason))
            continue
        found, expected, num_pixels = _count(file.root / file.path)
        if found == 0:
            faults.append(Fault("files that cannot be decoded", str(file), "cannot be decoded"))
            continue
        if found < expected:
            reason = f"ends after {found:,} of the {expected:,} frames that its header names"
            faults.append(Fault("videos that end early", str(file), reason))
        if found < every:
            reason = f"has {count(found, 'frame')}, fewer than --every={every}"
            faults.append(Fault("videos without a frame to take", str(file), reason))
        width, size = max(6, len(str(found))), int(_BYTES_PER_PIXEL * num_pixels)
        for number in range(every, found + 1, every):
            frames[f"{name}/{number:0{width}d}"] = VideoFrame(
                file.root, "", file.path, size, number
            )
    return frames, faults


def is_listed(files: RawFiles) -> bool:
    """Returns whether a folder has videos; they count as files that are not read."""
    expression = re.compile(_VIDEO)
    return any(expression.search(file.path) for file in files.others())


def _count(path: pathlib.Path) -> tuple[int, int, int]:
    """Returns the number of frames, that in the header, and the pixels of a frame."""
    capture = open_capture(path)
    try:
        keys = (
            cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH
        )  # fmt: skip
        expected, height, width = (int(capture.get(key)) for key in keys)
        number = 0
        while capture.grab():
            number += 1
        return number, expected, height * width
    finally:
        capture.release()


class _Reader:
    """Reads frames of a video, fast in ascending order."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path, self._position = path, 0
        self._capture = open_capture(path)

    def read(self, number: int) -> np.ndarray:
        """Decodes a frame: [H, W, 3] uint8 RGB."""
        if number <= self._position:
            self._capture.release()
            self._capture, self._position = open_capture(self._path), 0
        while self._position < number - 1 and self._capture.grab():
            self._position += 1
        there, pixels = self._capture.read()
        if not there:
            raise OSError(f"the video ends after {self._position} frames")
        self._position = number
        return np.ascontiguousarray(pixels[:, :, ::-1])


@functools.lru_cache(maxsize=2)
def _open(path: pathlib.Path) -> _Reader:
    """Opens a video; each process has its own handles."""
    return _Reader(path)


def close() -> None:
    """Forgets the open videos of this process."""
    _open.cache_clear()
