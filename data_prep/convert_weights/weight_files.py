"""Reads and writes files of weights: .pth and .safetensors.

Synopsis:

  state_dict = read(path, entry=None)
  write(path, state_dict)                  # the format that the name ends in
"""

import hashlib
import os
import pathlib

from alp_jax.errors import UserError, describe
from data_prep.convert_weights import entries, file_kinds, safetensors_files, torch_files
from data_prep.convert_weights.state_dict import StateDict


def read(path: pathlib.Path, entry: str | None) -> StateDict:
    """Reads a file of weights, of the format that its first bytes say.

    Args:
      path: the file.
      entry: the entry that holds the state dict, as --entry; None: the only one.
    Raises:
      UserError: if the file is of another format or damaged, or has no such entry.
    """
    if file_kinds.identify(path) != file_kinds.SAFETENSORS:
        return torch_files.read(path, entry)
    if entry is not None:
        raise UserError(
            f"--entry is {entry!r}, but {path} is a .safetensors file, which has no entries: "
            "leave it out."
        )
    return safetensors_files.read(path)


def write(path: pathlib.Path, state_dict: StateDict) -> tuple[str, list[str]]:
    """Writes a state dict atomically.

    Returns:
      the SHA-256 of the file, and notes on what it cannot hold.
    Raises:
      UserError: if the file cannot be written.
    """
    temporary, notes = path.with_name(f"{path.name}.tmp"), []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == f".{file_kinds.SAFETENSORS}":
            safetensors_files.write(temporary, state_dict)
            if state_dict.entry:
                notes = [f"left out: the entry {entries.show(state_dict.entry)} around the tensors"]
        else:
            torch_files.write(temporary, state_dict)
        os.replace(temporary, path)
        return sha256_of(path), notes
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"Cannot write {path} ({describe(error)}): give an --output where you may write."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: pathlib.Path) -> str:
    """Computes the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
