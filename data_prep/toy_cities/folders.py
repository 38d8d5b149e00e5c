"""Writes the cities as folders of PNG files, in the layout of a user's own data."""

import pathlib
from collections.abc import Sequence

import tensorflow_datasets as tfds

from alp_jax.errors import UserError
from alp_jax.workdir import files, outputs
from data_prep.common import datasets
from data_prep.toy_cities.builder import Part, ToyCities, ToyCitiesConfig

# Folder -> (part, split, {feature: subfolder of its files}); None writes images into the folder
# itself.
_FOLDERS: dict[str, tuple[Part, str, dict[str, str] | None]] = {
    "source": (Part.SOURCE, "train", {"image": "images", "label": "labels"}),
    "target": (Part.TARGET_UNLABELLED, "train", {"image": "images"}),
    "target_labelled": (Part.TARGET, "validation", {"image": "images", "label": "labels"}),
    "new_frames": (Part.TARGET, "test", None),
}
NAMES = tuple(_FOLDERS)
_OUTPUTS = outputs.Kind("pictures of the built-in cities", flag="folders")


def write_folders(
    root: pathlib.Path, data_dir: pathlib.Path, configs: Sequence[ToyCitiesConfig]
) -> None:
    """Writes source/, target/, target_labelled/ and new_frames/; labels are Cityscapes label ids.

    Args:
        root: parent of these folders.
        data_dir: directory of all datasets, with complete datasets of `configs`.
        configs: one configuration of each part.
    Raises:
        UserError: if one of them holds files of others, or a file cannot be written.
    """
    by_part = {config.part: config for config in configs}
    for name in _FOLDERS:
        outputs.check(root / name, _OUTPUTS)
    try:
        for name, (part, split, features) in _FOLDERS.items():
            directory = datasets.directory_of(ToyCities, data_dir, by_part[part])
            subfolders = {"image": ""} if features is None else features
            outputs.mark(root / name, _OUTPUTS)
            _write_split(root / name, directory, split, subfolders)
    except OSError as error:
        raise UserError(f"Cannot write {error.filename}: {error.strerror}.") from error


def _write_split(
    folder: pathlib.Path, directory: pathlib.Path, split: str, subfolders: dict[str, str]
) -> None:
    builder = tfds.builder_from_directory(directory)
    raw = {feature: tfds.decode.SkipDecoding() for feature in subfolders}
    for subfolder in subfolders.values():
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
    written = [
        (folder / subfolder / f"{record['name'].decode()}.png", record[feature])
        for record in builder.as_data_source(split, decoders=raw)
        for feature, subfolder in subfolders.items()
    ]
    for path, data in written:
        if path.exists() and path.read_bytes() != data:
            raise UserError(
                f"{path} is there with other content, and nothing of yours is replaced: move it "
                "elsewhere, or give another folder as --folders."
            )
    for path, data in written:
        files.write_bytes(path, data, durable=False)
