"""Finds what in a raw folder should have been read, and could not be.

Synopsis:

  faults = find_faults(files)                      # broken links, folders that cannot be opened
  faults += find_images(files, is_wanted)          # HEIC files, raw files of cameras
"""

import pathlib
from collections.abc import Callable

from alp_jax.data import walk
from alp_jax.data.images import ENDINGS, UNREAD_ENDINGS
from alp_jax.errors import printable
from data_prep.raw.files import RawFiles
from data_prep.raw.layout import Fault, Layout, Selection

_REMEDY = "mend or remove these"
_HEADINGS = {walk.UNREADABLE: "files or folders that cannot be opened"}


def select(layout: Layout, files: RawFiles) -> Selection:
    """Finds the pairs of a layout; the faults hold what could not be read in the folder.

    Raises:
        NothingFoundError: if no split is found.
    """
    selection = layout.select(files)
    selection.faults += find_faults(files)
    return selection


def find_faults(files: RawFiles, prefix: str = "") -> list[Fault]:
    """Lists links, folders and files that cannot be read, and special files named as images."""
    return [
        Fault(
            _HEADINGS.get(one.kind, one.kind),
            printable(prefix + one.path),
            one.reason,
            remedy=_REMEDY,
        )
        for one in files.passed_over
        if one.kind in walk.FAULTS or (one.kind == walk.NOT_A_FILE and _has_ending(one.path))
    ]


def find_images(files: RawFiles, is_wanted: Callable[[str], bool]) -> list[Fault]:
    """Lists images of kinds that are not read.

    Args:
        files: the folder of the images.
        is_wanted: whether an image would be taken, by its path without the ending.
    """
    return [
        Fault(
            "images of kinds that are not read",
            str(file),
            f"is an image of a kind that is not read ({file.path.rpartition('.')[2]})",
            remedy="convert or develop them to PNG or JPEG",
        )
        for file in files.others()
        if _ending(file.path) in UNREAD_ENDINGS and is_wanted(file.path.rpartition(".")[0])
    ]


def _ending(path: str) -> str:
    return pathlib.PurePosixPath(path).suffix.lower().removeprefix(".")


def _has_ending(path: str) -> bool:
    return _ending(path) in (*ENDINGS, *UNREAD_ENDINGS)
