"""Guards folders of outputs: a command writes only into a folder that is new, empty or its own.

Synopsis:

  PREDICTIONS = Kind("predictions")
  claim(folder, PREDICTIONS)     # or a UserError, before anything is written
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable

from alp_jax.data.walk import MARK
from alp_jax.errors import UserError, describe
from alp_jax.workdir import files

__all__ = ["MARK", "Kind", "cannot_write", "check", "check_inputs_outside", "claim", "mark"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of outputs.

    Attributes:
      name: what the folder holds, such as "predictions"; written into its mark.
      flag: the flag that names the folder; "" if none does.
      is_earlier: whether a folder without a mark was made by a version that left none.
      may_hold_links: whether a user may replace a part of the folder by a link, for example to a
        larger disk; else nothing is written where a link leads.
    """

    name: str
    flag: str = "output"
    is_earlier: Callable[[pathlib.Path], bool] = lambda _: False
    may_hold_links: bool = False

    def ask(self, what: str) -> str:
        """Asks for another folder: give a new one as --output."""
        return f"give {what} as --{self.flag}" if self.flag else f"give {what}"


def check(folder: pathlib.Path, kind: Kind) -> None:
    """Refuses a folder that holds anything else than outputs of a kind; writes nothing.

    Args:
      folder: may be missing; hidden files in it do not count.
      kind: the outputs to be written.
    Raises:
      UserError: if the folder is a file, holds anything else, or cannot be read.
    """
    try:
        held = sorted(n for n in os.listdir(folder) if not n.startswith("."))
        if held and not _is_own(folder, kind):
            raise UserError(
                f"{folder} holds {held[0]!r}, and is no folder of {kind.name} of this package, so "
                f"files of yours might be replaced: {kind.ask('a new or an empty folder')}."
            )
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise UserError(f"{folder} is a file: {kind.ask('a new or an empty folder')}.") from None
    except OSError as error:
        raise cannot_write(folder, kind, error) from error
    link = None if kind.may_hold_links else _find_link(folder)
    if link is not None:
        raise UserError(
            f"{folder} holds the link {link}, and files where it leads might be replaced: remove "
            f"the link, or {kind.ask('another folder')}."
        )


def mark(folder: pathlib.Path, kind: Kind) -> None:
    """Creates a folder that `check` has passed, and marks it.

    Raises:
      UserError: if it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _has_mark(folder, kind):
            files.write_text(folder / MARK, f"{kind.name}\n")
    except OSError as error:
        raise cannot_write(folder, kind, error) from error


def claim(folder: pathlib.Path, kind: Kind) -> None:
    """Creates a folder for outputs, or takes one over that the same command made.

    Raises:
      UserError: as `check` and `mark`.
    """
    check(folder, kind)
    mark(folder, kind)


def check_inputs_outside(inputs: Iterable[pathlib.Path], folder: pathlib.Path) -> None:
    """Refuses inputs that lie in the folder of outputs, where outputs might replace them.

    Raises:
      UserError: naming the first of them.
    """
    output = folder.resolve()
    for path in inputs:
        if path.resolve().is_relative_to(output):
            raise UserError(
                f"The input {path} lies in the output {folder}, where outputs might replace it: "
                "give another folder."
            )


def cannot_write(folder: pathlib.Path, kind: Kind, error: OSError) -> UserError:
    """Creates the error about a folder of outputs that cannot be written to."""
    return UserError(
        f"Cannot write to {folder} ({describe(error)}): "
        f"{kind.ask('a folder with enough space that you may write to')}."
    )


def _is_own(folder: pathlib.Path, kind: Kind) -> bool:
    if (folder / MARK).exists():
        return _has_mark(folder, kind)
    return kind.is_earlier(folder)


def _has_mark(folder: pathlib.Path, kind: Kind) -> bool:
    path = folder / MARK
    return path.is_file() and path.read_text(errors="replace").strip() == kind.name


def _find_link(folder: pathlib.Path) -> str | None:
    """Returns the first link below a folder, relative to it."""
    with os.scandir(folder) as found:
        for entry in sorted(found, key=lambda each: each.name):
            if entry.is_symlink():
                return entry.name
            below = _find_link(pathlib.Path(entry)) if entry.is_dir() else None
            if below is not None:
                return f"{entry.name}/{below}"
    return None
