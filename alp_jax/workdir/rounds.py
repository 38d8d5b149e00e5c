"""Stores the pseudo-labels of the rounds of a run: rounds/NUMBER in its workdir.

Synopsis:

  folder = find_folder(workdir, 0)
  begin(folder, found)                 # thresholds.json, in a new folder
  save_label(folder, index, label)     # 000000.png, ...
  finish(folder)                       # shares.json, and SHA256SUMS as the mark that all is there
  found = read(folder)                 # None before `begin`

Labels are 8-bit PNG files of classes or IGNORE_LABEL, made by the run itself of images alone; no
other file is ever read as a label of the target.
"""

import contextlib
import dataclasses
import hashlib
import logging
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from alp_jax.data.labels import IGNORE_LABEL
from alp_jax.errors import UserError, describe
from alp_jax.self_training.examples import label_path, read_label
from alp_jax.workdir import files, finite, manifest

logger = logging.getLogger(__name__)

FOLDER, THRESHOLDS, SHARES = "rounds", "thresholds.json", "shares.json"
PyTree = Any


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What the first pass over the target found.

    Attributes:
      step: number of updates of the weights that predicted.
      weights_sha256: digest of these weights (`digest`).
      portion: share of the pixels that was to be labelled.
      thresholds: confidence from which on a class is labelled, float32 numbers.
      class_pixels: pixels that are predicted as each class.
      mined_classes: classes that crops are laid around.
      num_images: images of the target.
      size: (height, width) of the labels, pixels.
    """

    step: int
    weights_sha256: str
    portion: float
    thresholds: tuple[float, ...]
    class_pixels: tuple[int, ...]
    mined_classes: tuple[int, ...]
    num_images: int
    size: tuple[int, int]


def digest(*trees: PyTree) -> str:
    """Computes the SHA-256 of all arrays of trees, with their paths."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(trees):
        array = np.asarray(leaf)
        found.update(f"{finite.name_path(path)} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def find_folder(workdir: pathlib.Path, number: int) -> pathlib.Path:
    """Returns the folder of a round."""
    return workdir / FOLDER / str(number)


def read(folder: pathlib.Path) -> Thresholds | None:
    """Reads the thresholds of a round; None if there are none, or the file is damaged."""
    try:
        fields = files.from_json((folder / THRESHOLDS).read_text())
        lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
        return Thresholds(**{**fields, **lists})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        logger.warning("%s cannot be read (%s).", folder / THRESHOLDS, describe(error))
        return None


def begin(folder: pathlib.Path, found: Thresholds) -> None:
    """Writes the thresholds into an empty folder; what it held is removed.

    Raises:
      UserError: if it cannot be written.
    """
    with _writing(folder):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        files.write_json(folder / THRESHOLDS, dataclasses.asdict(found))


def save_label(folder: pathlib.Path, index: int, label: np.ndarray) -> None:
    """Writes the label of an image: [H, W] uint8.

    Raises:
      UserError: if it cannot be written.
    """
    with _writing(folder):
        files.write_png(label_path(folder, index), label)


def count_labels(folder: pathlib.Path, num_images: int, size: tuple[int, int]) -> int:
    """Counts the labels that can be read before the first that cannot."""
    for index in range(num_images):
        if not label_path(folder, index).exists():
            return index
        try:
            read_label(folder, index, size)
        except UserError:
            return index
    return num_images


def finish(folder: pathlib.Path, found: Thresholds, class_names: Sequence[str]) -> float:
    """Writes the shares of classes in the labels, and marks the round's labels as complete.

    Returns:
      the share of all pixels that has a label, in [0, 1].
    Raises:
      UserError: if it cannot be written.
    """
    pixels = np.zeros(256, np.int64)
    for index in range(found.num_images):
        label = read_label(folder, index, found.size)
        pixels += np.bincount(label.ravel(), minlength=256)
    share = 1 - float(pixels[IGNORE_LABEL] / pixels.sum())
    labelled = int(pixels.sum() - pixels[IGNORE_LABEL])
    classes = {
        name: {
            "predicted_share": predicted / sum(found.class_pixels),
            "labelled_share": int(pixels[k]) / max(labelled, 1),
            "threshold": found.thresholds[k],
        }
        for k, (name, predicted) in enumerate(zip(class_names, found.class_pixels, strict=True))
    }
    with _writing(folder):
        files.write_json(folder / SHARES, {"labelled_share": share, "classes": classes})
        manifest.write(folder)
    return share


def is_complete(folder: pathlib.Path) -> bool:
    """Returns whether a round's labels are all there, as they were written."""
    if not (folder / manifest.FILE_NAME).exists():
        return False
    fault = manifest.find_fault(folder)
    if fault is not None:
        logger.warning("The pseudo-labels in %s are damaged (%s).", folder, fault)
    return fault is None


@contextlib.contextmanager
def _writing(folder: pathlib.Path) -> Iterator[None]:
    """Turns an error of the disk into one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The pseudo-labels in {folder} cannot be written ({describe(error)}): free some "
            "space there or make it writable, then give the same command again, which continues."
        ) from error
