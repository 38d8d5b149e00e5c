"""Writes small files atomically: a kill leaves the old file or the new one, never a part.

The only module that writes JSON. It is strict JSON, which has no NaN: an undefined number is null.
"""

import io
import json
import os
import pathlib
from typing import Any

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


def write_png(path: pathlib.Path, pixels: np.ndarray) -> None:
    """Writes a picture as PNG atomically, replacing an existing file; does not wait for the disk.

    Args:
      path: of the file.
      pixels: [H, W] or [H, W, 3] uint8.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue(), durable=False)


def write_json(path: pathlib.Path, content: Any, *, indent: int = 1) -> None:
    """Writes a JSON file atomically, replacing an existing one; raises as `to_json`."""
    write_text(path, to_json(content, indent=indent) + "\n")


def to_json(content: Any, *, indent: int | None = None) -> str:
    """Formats a value as strict JSON.

    Raises:
      ValueError: for NaN or an infinity. Computations report them before anything is written.
    """
    return json.dumps(content, indent=indent, allow_nan=False)


def from_json(text: str) -> Any:
    """Reads JSON; NaN and infinities, which earlier versions wrote, are read as null."""
    return json.loads(text, parse_constant=lambda _: None)
