"""Finds files with the same content, and reads as little as it can.

Synopsis:

  find_identical(files)        # [[RawFile a, RawFile b], ...]
  describe_identical(files)    # ["2 images have the content of another: a.png = b.png."]

Only files of equal size are read: their first bytes, and if those are equal, too, the whole files.
"""

import collections
import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence

from alp_jax.errors import shorten
from data_prep.raw.files import RawFile

_FIRST_BYTES = 1 << 16


def find_identical(files: Iterable[RawFile]) -> list[list[RawFile]]:
    """Groups the files whose content another has; one that cannot be read is in no group.

    Only whole files are compared, no frames of videos.
    """
    groups = [list(dict.fromkeys(file for file in files if type(file) is RawFile))]
    for key in (_size, _begin, _content):
        groups = [part for group in groups for part in _split(group, key)]
    return groups


def describe_identical(files: Iterable[RawFile]) -> list[str]:
    """Describes images with the same content in a line, or in none."""
    groups = find_identical(files)
    if not groups:
        return []
    number = sum(len(group) - 1 for group in groups)
    pairs = [" = ".join(map(str, group[:3])) + " = ..." * (len(group) > 3) for group in groups]
    have = "image has" if number == 1 else "images have"
    return [f"{number:,} {have} the content of another: {shorten(pairs)}."]


def _split(
    files: Sequence[RawFile], key: Callable[[RawFile], Hashable | None]
) -> list[list[RawFile]]:
    """Splits files by a key; drops those that are alone, or have none."""
    groups = collections.defaultdict(list)
    for file in files:
        value = key(file)
        if value is not None:
            groups[value].append(file)
    return [group for group in groups.values() if len(group) > 1]


def _size(file: RawFile) -> int:
    return file.num_bytes


def _begin(file: RawFile) -> Hashable | None:
    return _hash(file, _FIRST_BYTES)


def _content(file: RawFile) -> Hashable | None:
    return _hash(file, None)


def _hash(file: RawFile, num_bytes: int | None) -> bytes | None:
    try:
        data = file.read() if num_bytes is None else file.read_first(num_bytes)
    except Exception:  # OSError, or the many types of zipfile: preparation itself reports it.
        return None
    return hashlib.blake2b(data, digest_size=16).digest()
