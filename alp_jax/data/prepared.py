"""Finds the prepared datasets in a folder, opens one, and resolves its splits.

Synopsis:

  builder = open_builder("datasets", "toy_cities/source", field="config.data.source")
  parts = resolve_split(builder, "toy_cities/source", "train[:50%]")    # [Part("train", 0, 750)]

A dataset is a folder DATA_DIR/NAME/VERSION with a dataset_info.json.
"""

import difflib
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from google.protobuf import json_format

from alp_jax.errors import UserError, describe, shorten

INFO_FILE = "dataset_info.json"
ANEW = "prepare the dataset anew (the commands of data_prep do so with --replace)"
_VERSION = re.compile(r"\d+(\.\d+)*")
_DEPTH = 3  # Most folders from DATA_DIR to a version: NAME/CONFIGURATION/VERSION.


class Part(NamedTuple):
    """A part of a split: the records from `start` to before `end`."""

    split: str
    start: int
    end: int


def find_version(data_dir: str, name: str) -> pathlib.Path | None:
    """Finds the folder of a dataset's newest version; None if there is none.

    Raises:
      UserError: if a folder of it may not be entered.
    """
    root = pathlib.Path(data_dir).expanduser() / name
    _check_may_be_opened(root)
    found = [path.parent for path in root.glob(f"*/{INFO_FILE}") if _is_version(path.parent)]
    return max(found, key=lambda path: tuple(map(int, path.name.split("."))), default=None)


def _is_version(folder: pathlib.Path) -> bool:
    return _VERSION.fullmatch(folder.name) is not None


def list_datasets(data_dir: str) -> list[str]:
    """Lists the names of the prepared datasets in a folder."""
    root = pathlib.Path(data_dir).expanduser()
    found = {
        path.parent.parent.relative_to(root).as_posix()
        for depth in range(2, _DEPTH + 1)
        for path in root.glob("/".join(["*"] * depth) + f"/{INFO_FILE}")
        if _is_version(path.parent)
    }
    return sorted(found)


def open_builder(data_dir: str, name: str, *, field: str = "") -> tfds.core.DatasetBuilder:
    """Opens a prepared dataset.

    Args:
      data_dir: folder that holds all prepared datasets.
      name: of the dataset.
      field: of the configuration that names it, for the error message.
    Raises:
      UserError: if there is no such dataset, or its description is damaged.
    """
    version = find_version(data_dir, name)
    if version is None:
        raise _nothing_prepared(data_dir, name, field)
    try:
        (version / INFO_FILE).read_bytes()  # TFDS hides the reason why it cannot.
    except OSError as error:
        raise UserError(
            f"The dataset {version} cannot be read ({describe(error)}): see to it that its files "
            "can be read."
        ) from error
    try:
        return tfds.builder_from_directory(version)
    except (OSError, ValueError, KeyError, json_format.ParseError) as error:
        raise corrupt_description(version, error) from error


def _check_may_be_opened(dataset: pathlib.Path) -> None:
    """Refuses a dataset with a folder that may not be entered, so that it cannot be found."""
    try:
        for folder in filter(_is_version, dataset.iterdir()):
            os.stat(os.path.join(folder, INFO_FILE))
    except PermissionError as error:
        raise UserError(
            f"The dataset {dataset} cannot be opened ({describe(error)}): see to it that its "
            "folders can be entered."
        ) from error
    except OSError:
        return  # It is not there, as the caller reports.


def corrupt_description(folder: pathlib.Path, error: Exception) -> UserError:
    """Creates the error about a description (dataset_info.json and so on) that is no such file."""
    return UserError(f"The description of dataset {folder} is corrupt ({describe(error)}): {ANEW}.")


def _nothing_prepared(data_dir: str, name: str, field: str) -> UserError:
    """Creates the error about a dataset that does not exist; says which there are."""
    root = pathlib.Path(data_dir).expanduser()
    there = list_datasets(data_dir)
    asked = f", which {field} names" if field else ""
    if there:
        holds = f"{root} holds {shorten(there, 8)}"
    else:
        holds = f"{root} holds no dataset" if root.is_dir() else f"there is no folder {root}"
    near = _find_near(name, there)
    hint = f"did you mean {near}? If not, " if near else ""
    relative = (
        ""
        if root.is_absolute()
        else f"; config.data.data_dir is relative to the current folder, {pathlib.Path.cwd()}"
    )
    return UserError(
        f"No prepared dataset at {root / name}{asked}: {holds}; {hint}name another, or prepare it "
        "with its command in data_prep (for the built-in cities: "
        f"python -m data_prep.toy_cities --data_dir={data_dir}){relative}."
    )


def _find_near(name: str, there: Sequence[str]) -> str | None:
    """Finds the dataset that was probably meant: cityscapes/labelled_512x1024 without its size."""
    for other in there:
        if other.startswith(f"{name}_") or other.rpartition("/")[2] == name:
            return other
    return next(iter(difflib.get_close_matches(name, there, n=1)), None)


def resolve_split(
    builder: tfds.core.DatasetBuilder, name: str, split: str, *, field: str = ""
) -> list[Part]:
    """Finds the records that a split, or a slice of one, consists of.

    Args:
      builder: of the dataset.
      name: of the dataset, for messages.
      split: "train", or TFDS slices of splits: "train[:50%]+test[10:20]".
      field: of the configuration that names the split, for the error messages.
    Raises:
      UserError: if there is no such split, the slice is written wrongly, reaches beyond its split,
        or leaves no record.
    """
    sizes = {key: int(found.num_examples) for key, found in builder.info.splits.items()}
    names = [part.split("[")[0].strip() for part in split.split("+")]
    unknown = next((each for each in names if each not in sizes), None)
    if unknown is not None:
        whole = f" (of {split!r})" if unknown != split else ""
        raise UserError(
            f"Dataset {name} has no split {unknown!r}{whole}: expected one of "
            f"{_list_splits(sizes)}{_set(field)}."
        )
    try:
        instruction = tfds.core.ReadInstruction.from_spec(split)
        found = [
            Part(
                each.splitname,
                each.from_ or 0,
                sizes[each.splitname] if each.to is None else each.to,
            )
            for each in instruction.to_absolute(builder.info.splits)
        ]
    except (ValueError, NotImplementedError) as error:
        if "incompatible" in str(error):
            raise UserError(
                f"{split!r} of dataset {name} reaches beyond the split: expected at most what "
                f"there is, {_list_splits(sizes)}{_set(field)}."
            ) from error
        raise UserError(
            f"{split!r} of dataset {name} is no split and no slice of one: expected one of "
            f"{_list_splits(sizes)}, or a slice such as 'train[:10]' or 'train[50%:]'{_set(field)}."
        ) from error
    if sum(max(part.end - part.start, 0) for part in found) == 0:
        what = "is empty" if split in sizes else f"is empty as {split!r} leaves none of its images"
        raise UserError(
            f"Dataset {name}:{split} {what}: expected at least one image of "
            f"{_list_splits(sizes)}{_set(field)}."
        )
    return found


def _list_splits(sizes: Mapping[str, int]) -> str:
    """Lists splits with their sizes: test, train (20, 180 images)."""
    counts = ", ".join(f"{sizes[key]:,}" for key in sorted(sizes))
    return f"{', '.join(sorted(sizes))} ({counts} images)"


def _set(field: str) -> str:
    return f"; give another {field}" if field else ""


def check_files(builder: tfds.core.DatasetBuilder, name: str, parts: Sequence[Part]) -> None:
    """Refuses a split with a file of records missing or empty.

    Raises:
      UserError: naming the first of them.
    """
    for split in dict.fromkeys(part.split for part in parts):
        for file in map(pathlib.Path, builder.info.splits[split].filepaths):
            if not file.is_file() or not file.stat().st_size:
                state = "empty" if file.is_file() else "missing"
                raise UserError(
                    f"Dataset {name}:{split} is damaged, as {file} is {state}: copy that file "
                    f"again, or {ANEW}."
                )


def read_metadata(builder: tfds.core.DatasetBuilder, read: Any) -> Any:
    """Reads facts from a dataset's metadata by a function of it.

    Raises:
      UserError: if the metadata is damaged.
    """
    try:
        return read(builder.info.metadata)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise corrupt_description(pathlib.Path(builder.data_path), error) from error
