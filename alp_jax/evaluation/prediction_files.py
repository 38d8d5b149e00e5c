"""The files of predictions in an output folder, and what becomes of an earlier run's files.

Synopsis:

  output = PredictionFiles(folder)      # refuses earlier files that were changed since
  output.begin()                        # removes those that an earlier prediction lists
  reason = output.write("day/a", prediction)      # None, or why it cannot be written
  output.finish(summary)                # predictions.json

A file is removed only if predictions.json, or the list of a run that was interrupted, names it; no
other file is replaced.
"""

import errno
import json
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from alp_jax.errors import UserError, describe, printable
from alp_jax.evaluation.prediction import Prediction
from alp_jax.workdir import files

SUMMARY = "predictions.json"
# Names whose files were begun, one a line; it is gone when predictions.json is there.
UNFINISHED = ".unfinished"
PROBABILITIES = "probabilities"
# Folder of the output -> the picture in it.
_PICTURES: dict[str, Callable[[Prediction], np.ndarray]] = {
    "label_ids": lambda prediction: prediction.label_ids,
    "colour": lambda prediction: prediction.colour(),
    "overlay": lambda prediction: prediction.overlay(),
    "entropy": lambda prediction: prediction.entropy_colour(),
}
_COMPRESSION = 3  # Of PNG: half the time of Pillow's 6, files a tenth larger.
# Errors of the operating system that concern one name, and not the whole folder.
_NAME_ERRORS = (
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL,
)  # fmt: skip


class PredictionFiles:
    """Writes the files of predictions; several threads may write."""

    def __init__(self, folder: pathlib.Path):
        """Looks for files of an earlier prediction; changes nothing yet.

        Raises:
          UserError: if such a file was changed after it was predicted.
        """
        self._folder = folder
        self._lock = threading.Lock()
        summary = read_summary(folder)
        names = summary["images"] if summary else ()
        self._earlier = [name for name in names if "\0" not in name]
        self._check_unchanged()
        self._earlier += _read_journal(folder / UNFINISHED)

    def begin(self) -> None:
        """Removes the files of an earlier prediction."""
        journal = self._folder / UNFINISHED
        with journal.open("ab") as file:  # A kill from here on leaves the list of what is left.
            file.write(b"".join(map(_line, self._earlier)))
        (self._folder / SUMMARY).unlink(missing_ok=True)
        parents = set()
        for name in self._earlier:
            for path in self._paths(name):
                path.unlink(missing_ok=True)
                parents.add(path.parent)
        for parent in sorted(parents, key=lambda path: len(path.parts), reverse=True):
            self._remove_empty(parent)
        journal.write_bytes(b"")

    def write(self, name: str, prediction: Prediction) -> str | None:
        """Writes the files of one image.

        Returns:
          None; or, where the name is the reason that it cannot be written, the end of a sentence.
        Raises:
          OSError: if nothing can be written.
        """
        self._note(name)
        written: list[pathlib.Path] = []
        try:
            for kind, paint in _PICTURES.items():
                with self._create(kind, f"{name}.png", written) as file:
                    picture = Image.fromarray(paint(prediction))
                    picture.save(file, "PNG", compress_level=_COMPRESSION)
            if prediction.probabilities is not None:
                with self._create(PROBABILITIES, f"{name}.npz", written) as file:
                    np.savez_compressed(
                        file,
                        probabilities=prediction.probabilities.astype(np.float16),
                        names=np.array(prediction.label_set.names),
                        label_ids=np.array([c.label_id for c in prediction.label_set.classes]),
                    )
        except OSError as error:
            for path in written:
                path.unlink(missing_ok=True)
            if error.errno not in _NAME_ERRORS:
                raise
            return f"cannot be written as {printable(name)}.png ({describe(error)})"
        return None

    def finish(self, summary: dict[str, Any]) -> None:
        """Writes the summary, which says that the prediction is complete."""
        files.write_json(self._folder / SUMMARY, summary)
        (self._folder / UNFINISHED).unlink(missing_ok=True)

    def _create(self, kind: str, name: str, written: list[pathlib.Path]) -> BinaryIO:
        path = self._folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self._is_inside(path):
            raise FileExistsError(errno.EEXIST, "a link leads out of the folder")
        file = path.open("xb")
        written.append(path)
        return file

    def _note(self, name: str) -> None:
        with self._lock, (self._folder / UNFINISHED).open("ab") as journal:
            journal.write(_line(name))

    def _check_unchanged(self) -> None:
        if not self._earlier:
            return
        finished = (self._folder / SUMMARY).stat().st_mtime_ns
        for name in self._earlier:
            for path in self._paths(name):
                if path.stat().st_mtime_ns > finished:
                    raise UserError(
                        f"{path} was changed after it was predicted, and predicting into "
                        f"{self._folder} again would replace it: move it elsewhere, or "
                        "give another output folder."
                    )

    def _paths(self, name: str) -> Iterator[pathlib.Path]:
        """Finds the files of a name that are there."""
        for kind, ending in [*((kind, "png") for kind in _PICTURES), (PROBABILITIES, "npz")]:
            path = self._folder / kind / f"{name}.{ending}"
            if self._is_inside(path) and path.is_file() and not path.is_symlink():
                yield path

    def _is_inside(self, path: pathlib.Path) -> bool:
        """Returns whether neither a link nor ".." leads out of the folder."""
        return path.parent.resolve().is_relative_to(self._folder.resolve())

    def _remove_empty(self, folder: pathlib.Path) -> None:
        while folder != self._folder:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def read_summary(folder: pathlib.Path) -> dict[str, Any] | None:
    """Reads the summary of earlier predictions; None if there is none."""
    try:
        summary = json.loads((folder / SUMMARY).read_text())
    except (OSError, ValueError):
        return None
    is_ours = isinstance(summary, dict) and {"input", "label_ids", "images"} <= summary.keys()
    return summary if is_ours and isinstance(summary["images"], dict) else None


def _line(name: str) -> bytes:
    return files.to_json(name).encode() + b"\n"


def _read_journal(path: pathlib.Path) -> list[str]:
    """Reads the names in a list that a kill may have cut short."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    names = []
    for line in lines:
        try:
            name = json.loads(line)
        except ValueError:
            continue
        if isinstance(name, str):
            names.append(name)
    return names
