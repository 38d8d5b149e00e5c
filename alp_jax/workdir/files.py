"""Writes small files atomically: a kill leaves the old file or the new one, never a part."""

import os
import pathlib


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file atomically, replacing an existing one."""
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, data: bytes) -> None:
    """Writes a file atomically, replacing an existing one."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # Else a crash of the machine could leave an empty file.
    os.replace(temporary, path)
