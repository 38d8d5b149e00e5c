"""Keeps the user's own code with a run: the files that its configuration names as kinds.

Synopsis:

  save(fields, workdir)               # own_files/: a copy of each file
  check_unchanged(fields, workdir, has_checkpoint=True)    # or refuse a file that was changed
  fields = take_copies(fields, workdir)   # to evaluate, predict, export: what the run trained with

`fields` is a configuration as in config.json: nested dictionaries, in which a block's `kind` is the
path of a .py file if it is the user's own.
"""

import functools
import hashlib
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from alp_jax.errors import UserError, describe
from alp_jax.workdir import files

logger = logging.getLogger(__name__)

FOLDER = "own_files"


def save(fields: Mapping[str, Any], workdir: pathlib.Path) -> None:
    """Copies the user's files into the workdir, each once.

    Raises:
      UserError: if a file cannot be read or its copy not be written.
    """
    for kind in _list_files(fields):
        if _find_copy(kind, workdir):
            continue
        copy = _get_copy(kind, workdir)
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(copy, pathlib.Path(kind).read_bytes())
        except OSError as error:
            raise UserError(
                f"{kind} cannot be copied to {copy} ({describe(error)}): give a --workdir that you "
                "may write to."
            ) from error


def check_unchanged(
    fields: Mapping[str, Any], workdir: pathlib.Path, *, has_checkpoint: bool
) -> None:
    """Refuses to continue a run with another content of the user's files.

    Without a checkpoint there is nothing to continue: copies of files that were changed are
    removed, so that `save` takes them anew.

    Raises:
      UserError: naming the file that was changed since the run was started.
    """
    for kind in _list_files(fields):
        copy = _find_copy(kind, workdir)
        if copy and not _are_equal(kind, copy):
            if not has_checkpoint:
                copy.unlink()
                continue
            raise UserError(
                f"{kind} was changed since the run in {workdir} was started: expected what {copy} "
                "holds; give another --workdir, or restore the file."
            )


def take_copies(fields: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Any]:
    """Replaces the path of each file that was changed or is gone by that of its copy."""
    taken = {}
    for key, value in fields.items():
        taken[key] = take_copies(value, workdir) if isinstance(value, Mapping) else value
        if key == "kind" and _is_file(value):
            copy = _find_copy(value, workdir)
            if copy and not _are_equal(value, copy):
                _say_taken(value, copy)
                taken[key] = str(copy)
    return taken


@functools.cache  # Said once.
def _say_taken(kind: str, copy: pathlib.Path) -> None:
    logger.info("%s was changed or is gone since the run was started: using %s.", kind, copy)


def _list_files(fields: Mapping[str, Any]) -> Iterator[str]:
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield from _list_files(value)
        elif key == "kind" and _is_file(value):
            yield value


def _is_file(kind: Any) -> bool:
    return isinstance(kind, str) and kind.endswith(".py")


def _are_equal(kind: str, copy: pathlib.Path) -> bool:
    try:
        return pathlib.Path(kind).read_bytes() == copy.read_bytes()
    except (OSError, ValueError):  # It is gone, or may not be read.
        return False


def _find_copy(kind: str, workdir: pathlib.Path) -> pathlib.Path | None:
    copy = _get_copy(kind, workdir)
    return copy if os.path.isfile(copy) else None


def _get_copy(kind: str, workdir: pathlib.Path) -> pathlib.Path:
    """Returns the path of a copy, which differs for files of the same name in two folders."""
    number = hashlib.sha256(kind.encode(errors="surrogatepass")).hexdigest()[:8]
    return workdir / FOLDER / f"{number}_{os.path.basename(kind)}"
