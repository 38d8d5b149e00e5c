"""Records the origin of a converted workdir, so that exporting restores its file's bits."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from alp_jax.errors import UserError
from alp_jax.workdir import files

FILE_NAME = "weights.json"
UNUSED_FILE_NAME = "unused.npz"
_FORMAT = 2


@dataclasses.dataclass(frozen=True)
class Record:
    """Origin of converted weights.

    Attributes:
      source: name of the file.
      sha256: SHA-256 of the file.
      layout: name of its layout in LAYOUTS.
      entry: names from the file's top down to the state dict.
      prefix: prefix of the keys of the network.
      keys: whole keys, in the file's order.
      half: key of every tensor that is in half precision in the file -> its type.
      reasons: key of every tensor that the network does not need -> its description.
      unused: key -> tensor, for the same keys.
    """

    source: str
    sha256: str
    layout: str
    entry: tuple[str, ...]
    prefix: str
    keys: list[str]
    half: dict[str, str]
    reasons: dict[str, str]
    unused: dict[str, np.ndarray]

    def save(self, workdir: pathlib.Path) -> None:
        """Writes weights.json and unused.npz."""
        fields = {name: value for name, value in vars(self).items() if name != "unused"}
        files.write_json(workdir / FILE_NAME, {"format": _FORMAT, **fields})
        # By number, as savez has parameters of its own, which a key must not be called.
        arrays = {str(i): self.unused[key] for i, key in enumerate(self.reasons)}
        with (workdir / UNUSED_FILE_NAME).open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)


def load(workdir: pathlib.Path) -> Record | None:
    """Reads the record of a workdir; returns None for the workdir of a run.

    Raises:
      UserError: if the record is damaged.
    """
    path = workdir / FILE_NAME
    if not path.exists():
        return None
    try:
        with np.load(workdir / UNUSED_FILE_NAME, allow_pickle=False) as unused:
            return _read(json.loads(path.read_text()), dict(unused))
    except Exception as error:  # Zip, JSON and NumPy raise many types for damaged files.
        raise UserError(
            f"{path} or {UNUSED_FILE_NAME} beside it cannot be read ({type(error).__name__}): "
            "expected what the conversion wrote; convert the file of weights again."
        ) from error


def _read(fields: dict[str, Any], arrays: dict[str, np.ndarray]) -> Record:
    """Creates the record from the content of both files."""
    if fields.pop("format", 1) == _FORMAT:
        unused = {key: arrays[str(i)] for i, key in enumerate(fields["reasons"])}
        return Record(**fields | {"entry": tuple(fields["entry"])}, unused=unused)
    # Format 1 has all keys without the prefix, and one entry at most.
    prefix, wrapper = fields["prefix"], fields.pop("wrapper")
    fields |= {
        "entry": () if wrapper is None else (wrapper,),
        "keys": [prefix + key for key in fields["keys"]],
        "half": {},
        "reasons": {prefix + key: reason for key, reason in fields["reasons"].items()},
    }
    return Record(**fields, unused={prefix + key: array for key, array in arrays.items()})
