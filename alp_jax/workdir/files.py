"""Writes small files atomically: a kill leaves the old file or the new one, never a part."""

import io
import os
import pathlib

import numpy as np
from PIL import Image


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file atomically, replacing an existing one."""
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, data: bytes, *, durable: bool = True) -> None:
    """Writes a file atomically, replacing an existing one.

    A link of the same name is replaced, and what it leads to is left as it is.

    Args:
      path: of the file.
      data: its content.
      durable: whether to wait until the disk has it. Else a crash of the machine could leave an
        empty file, which does no harm to a picture that is written again.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    os.replace(temporary, path)


def write_png(path: pathlib.Path, pixels: np.ndarray, *, compression: int = 6) -> None:
    """Writes a picture as PNG atomically, replacing an existing file; does not wait for the disk.

    Args:
      path: of the file.
      pixels: [H, W] or [H, W, 3] uint8.
      compression: effort from 0 to 9; the default is Pillow's.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=compression)
    write_bytes(path, buffer.getvalue(), durable=False)
