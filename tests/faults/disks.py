"""Small and read-only disks, where this machine lets us mount them."""

import contextlib
import pathlib
import subprocess
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def small(folder: pathlib.Path, *, kilobytes: int) -> Iterator[pathlib.Path]:
    """A file system of a few kilobytes; skips the test where none can be mounted."""
    point = folder / "small"
    point.mkdir()
    with _mounted(point, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs"):
        yield point


@contextlib.contextmanager
def read_only(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The folder itself, where nobody can write, root neither."""
    with _mounted(folder, "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield folder


@contextlib.contextmanager
def _mounted(point: pathlib.Path, *arguments: str) -> Iterator[None]:
    try:
        subprocess.run(["mount", *arguments, point], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here ({error}): run as root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)


def fill(path: pathlib.Path) -> None:
    """Writes a file until its disk is full."""
    with path.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
