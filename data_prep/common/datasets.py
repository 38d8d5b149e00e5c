"""Checks and writes dataset directories, DATA_DIR/NAME/CONFIG/VERSION.

Synopsis:

  counts = read_counts(directory)                                 # None: not there
  write(make_builder, directory)                                  # a new one
  write(make_builder, directory, kept=("train",), replace=True)   # other splits anew, or added
"""

import contextlib
import io
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

import tensorflow_datasets as tfds
from absl import logging
from google.protobuf import json_format

from alp_jax.data import digests, prepared, statistics
from alp_jax.errors import UserError, shorten
from alp_jax.workdir import files

FILE_FORMAT = "array_record"
REQUEST_FILE = "request.json"
Builder = TypeVar("Builder", bound=tfds.core.DatasetBuilder)
_UNFINISHED = tfds.core.constants.INCOMPLETE_PREFIX
_ASIDE = "replaced."  # Prefix of the name of a dataset while another takes its place.
_SIDE_FILES = ("features.json", "metadata.json", statistics.FILE_NAME, digests.FILE_NAME)
_OUR_FILES = (prepared.INFO_FILE, REQUEST_FILE, *_SIDE_FILES)


def directory_of(
    builder_cls: type[tfds.core.DatasetBuilder],
    data_dir: str | os.PathLike[str],
    config: tfds.core.BuilderConfig,
) -> pathlib.Path:
    """Returns the directory of a configuration: DATA_DIR/NAME/CONFIG/VERSION.

    Raises:
        UserError: if it may not be entered, or a link leads out of DATA_DIR.
    """
    root = pathlib.Path(data_dir)
    directory = root / builder_cls.name / config.name / str(builder_cls.VERSION)
    for folder in (root, *reversed(directory.parents[:2]), directory):
        try:
            os.stat(os.path.join(folder, "."))  # Says whether it may be entered.
            if folder == directory:
                os.listdir(folder)
        except PermissionError as error:
            raise UserError(f"Cannot write in {folder}: {error.strerror}.") from error
        except OSError:  # It is not there.
            break
        if not folder.resolve().is_relative_to(root.resolve()):
            raise UserError(
                f"{folder} leads out of {root}, to {folder.resolve()}, where datasets could "
                "replace files of others: remove that link, or give another --data_dir."
            )
    return directory


def read_counts(directory: pathlib.Path) -> dict[str, int] | None:
    """Returns {split: number of records} of a dataset; None if there is none.

    Raises:
        UserError: if the directory exists, but is not a complete dataset.
    """
    _finish_replacing(directory)
    if not directory.exists() or not any(directory.iterdir()):
        return None
    fault, counts = "", {}
    try:
        splits = tfds.builder_from_directory(directory).info.splits
        counts = {name: split.num_examples for name, split in splits.items()}
        files = [pathlib.Path(f) for split in splits.values() for f in split.filepaths]
        bad = [f.name for f in files if not (f.is_file() and f.stat().st_size)]
        fault = f"{shorten(bad, 2)} missing or empty" if bad else ""
    except (
        OSError,
        ValueError,
        AttributeError,
        json_format.ParseError,
        tfds.core.DatasetNotFoundError,
    ):
        fault = f"{prepared.INFO_FILE} missing or damaged"
    if not counts or fault:
        raise incomplete(directory, fault or "it has no split")
    return counts


def incomplete(directory: pathlib.Path, fault: str) -> UserError:
    """Creates the error about a directory NAME/CONFIG/VERSION that is no complete dataset."""
    name = directory.parents[1].name
    foreign = _find_foreign(directory)
    if foreign or not _is_ours(directory):
        why = f"as it holds {foreign[0]}" if foreign else f"as it has no {prepared.INFO_FILE} of it"
        return UserError(
            f"{directory} exists but is not a dataset of {name}, {why}: give another --data_dir."
        )
    return UserError(
        f"{directory} exists but is not a complete {name} dataset ({fault}): write it anew with "
        "--replace, or give another --data_dir."
    )


def _find_foreign(directory: pathlib.Path) -> list[str]:
    """Lists what is in a dataset's directory and is not written by preparation."""
    own = f"{directory.parents[1].name}-"
    return [
        path.name
        for path in sorted(directory.iterdir())
        if path.is_dir() or not (path.name in _OUR_FILES or path.name.startswith(own))
    ]


def _is_ours(directory: pathlib.Path) -> bool:
    """Returns whether a directory holds a dataset that preparation wrote, even a damaged one.

    Files of records tell, and so does a description that names the dataset.
    """
    name = directory.parents[1].name
    try:
        return bool(json.loads((directory / prepared.INFO_FILE).read_text())["name"] == name)
    except (OSError, ValueError, KeyError, TypeError):
        return any(directory.glob(f"{name}-*.{FILE_FORMAT}-*-of-*"))


def leftovers(directory: pathlib.Path) -> list[pathlib.Path]:
    """Lists unfinished directories beside a dataset's, of killed or running commands."""
    return sorted(directory.parent.glob(f"{_UNFINISHED}*"))


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


@contextlib.contextmanager
def leaving_no_empty_folders(directory: pathlib.Path) -> Iterator[None]:
    """Removes the folders above a dataset that were made inside, if its preparation fails."""
    made = [folder for folder in directory.parents if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):
                if os.listdir(folder) == [".config"]:  # TFDS notes the default configuration.
                    shutil.rmtree(folder / ".config")
                folder.rmdir()
        raise


def write(
    make_builder: Callable[..., Builder],
    directory: pathlib.Path,
    *,
    kept: Collection[str] = (),
    replace: bool = False,
    download_config: tfds.download.DownloadConfig | None = None,
) -> Builder:
    """Creates a builder and writes its dataset atomically: its directory appears when complete.

    Prints nothing.

    Args:
        make_builder: takes the argument data_dir.
        directory: of the dataset.
        kept: splits that are kept of the dataset that is there, which is replaced.
        replace: whether a dataset that is there is replaced, once the new one is complete.
        download_config: of TFDS.
    Raises:
        UserError: if a file cannot be written, or if what is there is no dataset of ours.
    """
    logging.set_verbosity(logging.ERROR)  # TFDS warns about every configuration with a parameter
    tfds.disable_progress_bar()

    def build(data_dir: pathlib.Path) -> Builder:
        builder = make_builder(data_dir=os.fspath(data_dir))
        with (
            tempfile.TemporaryDirectory() as downloads,  # Else TFDS leaves an empty folder.
            contextlib.redirect_stdout(io.StringIO()),  # TFDS prints a line before and after.
        ):
            builder.download_and_prepare(download_dir=downloads, download_config=download_config)
        return builder

    try:
        if not directory.exists() or not any(directory.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                directory.rmdir()  # TFDS would take an empty directory for a dataset.
            return build(directory.parents[2])
        if not replace or _find_foreign(directory) or not _is_ours(directory):
            raise incomplete(directory, "it is there already")
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=directory.parent) as staging:
            builder = build(pathlib.Path(staging))
            new = pathlib.Path(builder.data_path)
            if kept:
                _take_over(kept, directory, new)
            _swap(new, directory)
        return builder
    except OSError as error:
        raise UserError(f"Cannot write {error.filename}: {error.strerror}.") from error


def _take_over(splits: Collection[str], old: pathlib.Path, new: pathlib.Path) -> None:
    """Adds splits of one dataset to another; their records are linked, not copied, if possible."""
    infos = {folder: json.loads((folder / prepared.INFO_FILE).read_text()) for folder in (old, new)}
    infos[new]["splits"] = [
        info for info in infos[old]["splits"] if info["name"] in splits
    ] + infos[new]["splits"]
    files.write_json(new / prepared.INFO_FILE, infos[new], indent=2)
    for split in splits:
        for path in old.glob(f"{old.parents[1].name}-{split}.*"):
            try:
                os.link(path, new / path.name)
            except OSError:  # Some file systems have no links.
                shutil.copy2(path, new / path.name)
    pixels = {split: found for split, found in statistics.read(old).items() if split in splits}
    if pixels:
        statistics.write(new, pixels | statistics.read(new))
    known = {split: found for split, found in digests.read(old).items() if split in splits}
    digests.write(new, known | digests.read(new))


def _swap(new: pathlib.Path, directory: pathlib.Path) -> None:
    """Puts a directory in the place of another, which is removed."""
    aside = directory.with_name(_ASIDE + directory.name)
    os.rename(directory, aside)
    try:
        os.rename(new, directory)
    except BaseException:
        os.rename(aside, directory)
        raise
    shutil.rmtree(aside)


def _finish_replacing(directory: pathlib.Path) -> None:
    """Restores a dataset that a command was killed while replacing, or removes the old one."""
    aside = directory.with_name(_ASIDE + directory.name)
    if not aside.exists():
        return
    if directory.exists():
        shutil.rmtree(aside)
    else:
        os.rename(aside, directory)
