"""Matches paths with a pattern as a shell does: `*`, `?`, `[abc]`, and `**` for any folders.

Synopsis:

  root, pattern = split_pattern("frames/*/left/**/*.png")    # "frames", Pattern
  pattern.matches(("day", "left", "1.png"))    # True
"""

import dataclasses
import fnmatch
import glob
import os
import pathlib
import re
from typing import Self

from alp_jax.data.walk import Parts

_ANY_FOLDERS = None  # Stands for `**`.


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A pattern of paths below a folder.

    Attributes:
      parts: an expression for each name in the path, or None for any number of folders.
    """

    parts: tuple[re.Pattern[str] | None, ...]

    @classmethod
    def parse(cls, parts: Parts) -> Self:
        """Reads a pattern, name by name."""
        return cls(
            tuple(
                _ANY_FOLDERS if part == "**" else re.compile(fnmatch.translate(part))
                for part in parts
            )
        )

    def matches(self, path: Parts) -> bool:
        """Returns whether a whole path matches."""
        return _match(path, self.parts, only_begins=False)

    def may_match_below(self, folder: Parts) -> bool:
        """Returns whether the path of something in a folder may match."""
        return _match(folder, self.parts, only_begins=True)


def split_pattern(path: str) -> tuple[pathlib.Path, Pattern]:
    """Splits a path at its first name with a wildcard: (the fixed folder, the rest)."""
    parts = pathlib.Path(os.path.expanduser(path)).parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return pathlib.Path(*parts[:fixed]), Pattern.parse(parts[fixed:])


def _match(path: Parts, pattern: tuple[re.Pattern[str] | None, ...], *, only_begins: bool) -> bool:
    if not pattern:
        return not path and not only_begins
    if pattern[0] is _ANY_FOLDERS:
        if only_begins:
            return True
        return any(_match(path[i:], pattern[1:], only_begins=False) for i in range(len(path) + 1))
    if not path:
        return only_begins
    found = pattern[0].fullmatch(path[0])
    return found is not None and _match(path[1:], pattern[1:], only_begins=only_begins)
