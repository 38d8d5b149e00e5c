"""Reads and writes how many pixels of each class the label of each record has.

Synopsis:

  pixels = read_class_pixels("datasets", "gta5/all", "train[:100]", label_set)    # [100, C]
  frequencies = pixels.sum(axis=0) / pixels.sum()

Preparation counts the pixels once, and stores them in the dataset's folder, `class_pixels.npz`:
for each split the label values that occur, `SPLIT/values` [V] uint8, and `SPLIT/pixels` [N, V]
uint32, a row for each record, in the order of the records.
"""

import pathlib
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from alp_jax.data import prepared
from alp_jax.data.labels import CITYSCAPES_TABLE, LabelSet, LabelTable
from alp_jax.errors import UserError, describe, shorten

FILE_NAME = "class_pixels.npz"
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


def write(folder: pathlib.Path, pixels: Mapping[str, np.ndarray]) -> None:
    """Writes the pixels of all splits into the folder of a dataset.

    Args:
      folder: of the dataset.
      pixels: split -> [N, 256] pixels of each label value in each record.
    """
    arrays = {}
    for split, counted in pixels.items():
        values = np.flatnonzero(counted.any(axis=0))
        arrays[f"{split}/values"] = values.astype(np.uint8)
        arrays[f"{split}/pixels"] = counted[:, values].astype(np.uint32)
    np.savez_compressed(folder / FILE_NAME, allow_pickle=False, **arrays)


def read(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the pixels of all splits: split -> [N, 256] int64; empty if none were stored.

    Raises:
      UserError: if the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    pixels = {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            for name in archive.files:
                split, _, what = name.rpartition("/")
                if what == "values":
                    counted = archive[f"{split}/pixels"]
                    pixels[split] = np.zeros((len(counted), 256), np.int64)
                    pixels[split][:, archive[name]] = counted
    except _DAMAGED as error:
        raise UserError(
            f"The class frequencies {path} are damaged ({describe(error)}): {prepared.ANEW}."
        ) from error
    return pixels


def find_pixels(
    builder: tfds.core.DatasetBuilder, parts: Sequence[prepared.Part]
) -> np.ndarray | None:
    """Reads the pixels of each label value in some records: [N, 256]; None if not stored.

    Raises:
      UserError: if they are damaged, or of another number of records.
    """
    folder = pathlib.Path(builder.data_path)
    pixels = read(folder)
    if not all(part.split in pixels for part in parts):
        return None
    for part in parts:
        found, expected = len(pixels[part.split]), builder.info.splits[part.split].num_examples
        if found != expected:
            raise UserError(
                f"The class frequencies {folder / FILE_NAME} are of {found} records in "
                f"{part.split}, which has {expected}: {prepared.ANEW}."
            )
    return np.concatenate([pixels[part.split][part.start : part.end] for part in parts])


def read_class_pixels(data_dir: str, name: str, split: str, label_set: LabelSet) -> np.ndarray:
    """Reads how many pixels of each class the label of each record has, without decoding labels.

    Args:
      data_dir, name, split: as for `sources.open_source`.
      label_set: the C classes.
    Returns:
      [N, C] int64, in the order of the records; pixels that are ignored count nowhere.
    Raises:
      UserError: if there is no such dataset or split, or it was prepared without class frequencies.
    """
    builder = prepared.open_builder(data_dir, name)
    pixels = find_pixels(builder, prepared.resolve_split(builder, name, split))
    if pixels is None:
        raise UserError(
            f"Dataset {name}:{split} has no class frequencies, as it has no labels or was prepared "
            f"by an earlier version: name a dataset with labels, or {prepared.ANEW}."
        )
    table = prepared.read_metadata(builder, LabelTable.from_metadata) or CITYSCAPES_TABLE
    return count_classes(pixels, table, label_set)


def count_classes(pixels: np.ndarray, table: LabelTable, label_set: LabelSet) -> np.ndarray:
    """Sums pixels of label values to pixels of classes: [..., 256] -> [..., C]."""
    train_ids = label_set.map_table(table)
    return np.stack(
        [
            pixels[..., train_ids == train_id].sum(axis=-1)
            for train_id in range(label_set.num_classes)
        ],
        axis=-1,
    )


def describe_unlabelled(pixels: np.ndarray, table: LabelTable, label_set: LabelSet) -> str:
    """Describes labels without a pixel of a class by what they hold; "" if there is such a pixel.

    Args:
      pixels: [256] pixels of each label value.
      table: label table of the dataset.
      label_set: label set of the run.
    """
    if count_classes(pixels, table, label_set).any():
        return ""
    held: dict[str, int] = {}
    for value in np.flatnonzero(pixels).tolist():
        name = table.names.get(value, "ignored")
        held[name] = held.get(name, 0) + int(pixels[value])
    shares = [
        f"{100 * count / pixels.sum():.1f} % of its pixels are {name}"
        for name, count in sorted(held.items(), key=lambda item: -item[1])
    ]
    return shorten(shares, 3)
