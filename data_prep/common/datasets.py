"""Checks and writes dataset directories, DATA_DIR/NAME/CONFIG/VERSION."""

import contextlib
import io
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import TypeVar

import tensorflow_datasets as tfds
from absl import logging

from alp_jax.errors import UserError

FILE_FORMAT = "array_record"
Builder = TypeVar("Builder", bound=tfds.core.DatasetBuilder)


def directory_of(
    builder_cls: type[tfds.core.DatasetBuilder],
    data_dir: str | os.PathLike[str],
    config: tfds.core.BuilderConfig,
) -> pathlib.Path:
    """Returns the directory of a configuration: DATA_DIR/NAME/CONFIG/VERSION."""
    return pathlib.Path(data_dir, builder_cls.name, config.name, str(builder_cls.VERSION))


def read_counts(directory: pathlib.Path) -> dict[str, int] | None:
    """Returns {split: number of records} of a dataset; None if the directory does not exist.

    Raises:
        UserError: if the directory exists, but is not a complete dataset.
    """
    if not directory.exists():
        return None
    try:
        splits = tfds.builder_from_directory(directory).info.splits
        counts = {name: split.num_examples for name, split in splits.items()}
        files = [pathlib.Path(f) for split in splits.values() for f in split.filepaths]
    except (OSError, ValueError, AttributeError, tfds.core.DatasetNotFoundError):
        counts, files = {}, []
    if not counts or not all(f.is_file() and f.stat().st_size for f in files):
        raise incomplete(directory)
    return counts


def incomplete(directory: pathlib.Path) -> UserError:
    """Creates the error about a directory NAME/CONFIG/VERSION that is no complete dataset."""
    return UserError(
        f"{directory} exists but is not a complete {directory.parents[1].name} dataset: "
        "delete it and run again."
    )


def leftovers(directory: pathlib.Path) -> list[pathlib.Path]:
    """Lists unfinished directories beside a dataset's, of killed or running commands."""
    return sorted(directory.parent.glob(f"{tfds.core.constants.INCOMPLETE_PREFIX}*"))


def check_writable(directory: pathlib.Path) -> None:
    """Creates a directory if missing, and checks that files can be written in it.

    Raises:
        UserError: if no file can be written in it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UserError(f"Cannot write in {directory}: {error.strerror}.") from error


def write(
    make_builder: Callable[[], Builder],
    download_config: tfds.download.DownloadConfig | None = None,
) -> Builder:
    """Creates a builder and writes its dataset atomically: its directory appears when complete.

    Prints nothing.

    Raises:
        UserError: if a file cannot be written.
    """
    logging.set_verbosity(logging.ERROR)  # TFDS warns about every configuration with a parameter
    tfds.disable_progress_bar()
    builder = make_builder()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints a line before and after
            builder.download_and_prepare(download_config=download_config)
    except OSError as error:
        raise UserError(f"Cannot write {error.filename}: {error.strerror}.") from error
    return builder
