"""Dataset directories, DATA_DIR/NAME/CONFIG/VERSION: whether one is whole, and writing one."""

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
    """Where a configuration is written: DATA_DIR/NAME/CONFIG/VERSION."""
    return pathlib.Path(data_dir, builder_cls.name, config.name, str(builder_cls.VERSION))


def read_counts(directory: pathlib.Path) -> dict[str, int] | None:
    """The number of records of each split of a dataset; None where no directory is.

    Raises:
        UserError: if the directory is there, but not a dataset with all its files.
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
    """The error about a directory NAME/CONFIG/VERSION that is there and not what it should be."""
    return UserError(
        f"{directory} exists but is not a complete {directory.parents[1].name} dataset: "
        "delete it and run again."
    )


def leftovers(directory: pathlib.Path) -> list[pathlib.Path]:
    """What killed commands left next to a dataset directory; one still running has one, too."""
    return sorted(directory.parent.glob(f"{tfds.core.constants.INCOMPLETE_PREFIX}*"))


def check_writable(directory: pathlib.Path) -> None:
    """Creates a directory if need be.

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
    """Makes a builder and writes its dataset, which appears under its name only when it is whole.

    Nothing is printed.

    Raises:
        UserError: if a file cannot be written.
    """
    logging.set_verbosity(logging.ERROR)  # TFDS warns of every configuration with a parameter
    tfds.disable_progress_bar()
    builder = make_builder()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints a line before and after
            builder.download_and_prepare(download_config=download_config)
    except OSError as error:
        raise UserError(f"Cannot write {error.filename}: {error.strerror}.") from error
    return builder
