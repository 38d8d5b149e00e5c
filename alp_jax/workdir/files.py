"""Writing small files so that a kill leaves the old one or the new one, never half of one."""

import os
import pathlib


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a whole text file in one step, replacing the one that is there."""
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, data: bytes) -> None:
    """Writes a whole file in one step, replacing the one that is there."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # Or a crash of the machine could leave the new name and no data.
    os.replace(temporary, path)
