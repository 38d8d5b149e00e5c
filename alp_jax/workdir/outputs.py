"""Guards folders of outputs: a command writes only into a folder that is new, empty or its own.

Synopsis:

  claim(folder, "predictions")     # or a UserError, before anything is written
"""

import os
import pathlib
from collections.abc import Callable, Iterable

from alp_jax.errors import UserError, describe
from alp_jax.workdir import files

MARK = ".alp_jax"  # File in a claimed folder; holds the kind of its outputs.


def claim(
    folder: pathlib.Path,
    kind: str,
    *,
    is_earlier: Callable[[pathlib.Path], bool] = lambda _: False,
) -> None:
    """Creates a folder for outputs, or takes one over that the same command made.

    Args:
      folder: may be missing; hidden files in it do not count.
      kind: what the outputs are, such as "predictions".
      is_earlier: whether the folder was made by a version that left no mark.
    Raises:
      UserError: if the folder holds anything else, or cannot be written to.
    """
    try:
        held = sorted(n for n in os.listdir(folder) if not n.startswith("."))
        if held and not _has_mark(folder, kind) and not is_earlier(folder):
            raise UserError(
                f"The output {folder} holds {held[0]!r}, and is no folder of {kind} of this "
                "package, so files of yours might be replaced: give a new or an empty folder."
            )
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        raise UserError(f"The output {folder} is a file: give a new or an empty folder.") from None
    except OSError as error:
        raise _cannot_write(folder, error) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / MARK, f"{kind}\n")
    except OSError as error:
        raise _cannot_write(folder, error) from error


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


def _has_mark(folder: pathlib.Path, kind: str) -> bool:
    path = folder / MARK
    return path.is_file() and path.read_text(errors="replace").strip() == kind


def _cannot_write(folder: pathlib.Path, error: OSError) -> UserError:
    return UserError(
        f"Cannot write to {folder} ({describe(error)}): give an output folder that you may write "
        "to."
    )
