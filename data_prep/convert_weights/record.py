"""Records the origin of a converted workdir, so that exporting restores its .pth file's bits."""

import dataclasses
import json
import pathlib

import numpy as np

from alp_jax.errors import UserError
from alp_jax.workdir import files

FILE_NAME = "weights.json"
UNUSED_FILE_NAME = "unused.npz"


@dataclasses.dataclass(frozen=True)
class Record:
    """Origin of converted weights.

    Attributes:
      source: name of the file.
      sha256: SHA-256 of the file.
      layout: name of its layout in LAYOUTS.
      wrapper: name of the entry of the file that held the state dict, or None.
      prefix: prefix of every key in the file.
      keys: keys without the prefix, in the file's order.
      reasons: key of every tensor that the network does not need -> its description.
      unused: key -> tensor, for the same keys.
    """

    source: str
    sha256: str
    layout: str
    wrapper: str | None
    prefix: str
    keys: list[str]
    reasons: dict[str, str]
    unused: dict[str, np.ndarray]

    def save(self, workdir: pathlib.Path) -> None:
        """Writes weights.json and unused.npz."""
        fields = {name: value for name, value in vars(self).items() if name != "unused"}
        files.write_text(workdir / FILE_NAME, json.dumps(fields, indent=1) + "\n")
        with (workdir / UNUSED_FILE_NAME).open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.unused)


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
            return Record(**json.loads(path.read_text()), unused=dict(unused))
    except Exception as error:  # Zip, JSON and NumPy raise many types for damaged files.
        raise UserError(
            f"{path} or {UNUSED_FILE_NAME} beside it cannot be read ({type(error).__name__}): "
            "expected what the conversion wrote; convert the .pth file again."
        ) from error
