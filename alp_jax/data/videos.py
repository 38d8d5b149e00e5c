"""Decodes videos to RGB frames with OpenCV, whose wheels include FFmpeg.

Synopsis:

  for pixels in decode(path):      # [H, W, 3] uint8 RGB
      ...
"""

import os
import pathlib
import tempfile
from collections.abc import Iterator

import cv2
import numpy as np

from alp_jax.data.image_files import ImageError

ENDINGS = ("mp4", "avi", "mov", "mkv", "webm", "m4v", "mpg", "mpeg", "wmv", "ts", "mts", "m2ts",
           "flv", "3gp", "ogv")  # fmt: skip

_PACKET = 188  # Bytes of a packet of an MPEG transport stream; each begins with _SYNC.
_SYNC = 0x47


def is_video(path: pathlib.Path) -> bool:
    """Returns whether a file has the ending of a video; .ts may also be a program's text."""
    ending = path.suffix.lower().removeprefix(".")
    return ending in ENDINGS and (ending != "ts" or _is_transport_stream(path))


def open_capture(path: pathlib.Path) -> cv2.VideoCapture:
    """Opens a video of any name; the caller releases it."""
    name = os.path.abspath(path)  # FFmpeg takes "a:b.mp4" for a protocol, but no whole path.
    try:
        name.encode()
    except UnicodeEncodeError:  # OpenCV takes UTF-8 only.
        with tempfile.TemporaryDirectory() as folder:
            link = os.path.join(folder, f"video{path.suffix if path.suffix.isascii() else ''}")
            os.symlink(name, link)
            return cv2.VideoCapture(link)
    return cv2.VideoCapture(name)


def count_frames(path: pathlib.Path) -> int:
    """Returns the number of frames in a video's header, at least 1."""
    capture = open_capture(path)
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return max(count, 1)


def decode(path: pathlib.Path) -> Iterator[np.ndarray]:
    """Yields the frames of a video: [H, W, 3] uint8 RGB.

    Raises:
      ImageError: after the last frame, if the header has more.
    """
    expected, number = count_frames(path), 0
    capture = open_capture(path)
    try:
        while True:
            there, pixels = capture.read()
            if not there:
                break
            number += 1
            yield np.ascontiguousarray(pixels[:, :, ::-1])
    finally:
        capture.release()
    if number < expected:
        raise ImageError(
            f"ends after {number} of {expected} frames, or cannot be decoded from there"
        )


def _is_transport_stream(path: pathlib.Path) -> bool:
    try:
        with path.open("rb") as file:
            data = file.read(_PACKET + 1)
    except OSError:
        return False
    return len(data) > _PACKET and data[0] == data[_PACKET] == _SYNC
