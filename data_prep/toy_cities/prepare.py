"""Builds the four configurations of one set of parameters, skipping those that are complete."""

import contextlib
import io
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence

import tensorflow_datasets as tfds
from absl import logging

from alp_jax.errors import UserError
from data_prep.toy_cities.builder import ToyCities, ToyCitiesConfig
from data_prep.toy_cities.render import Domain, Settings, Split
from data_prep.toy_cities.scenes import EncodedScene, SceneFactory


class _CountingFactory(SceneFactory):
    """Tells a progress bar about every scene."""

    def __init__(self, workers: int, on_scene: Callable[[], None]) -> None:
        super().__init__(workers)
        self._on_scene = on_scene

    def scenes(
        self, settings: Settings, domain: Domain, split: Split, count: int
    ) -> Iterator[EncodedScene]:
        for scene in super().scenes(settings, domain, split, count):
            yield scene
            self._on_scene()


def dataset_directory(data_dir: str | os.PathLike[str], config: ToyCitiesConfig) -> pathlib.Path:
    """Where a configuration is written: data_dir/toy_cities/NAME/VERSION."""
    return pathlib.Path(data_dir) / ToyCities.name / config.name / str(ToyCities.VERSION)


def is_complete(data_dir: str | os.PathLike[str], config: ToyCitiesConfig) -> bool:
    """Whether a configuration is there with all its records.

    Raises:
        UserError: if its directory is there, but something else is in it.
    """
    directory = dataset_directory(data_dir, config)
    if not directory.exists():
        return False
    expected = {split.name.lower(): count for split, count in config.counts().items()}
    try:
        splits = tfds.builder_from_directory(directory).info.splits
        found = {name: split.num_examples for name, split in splits.items()}
        files = [pathlib.Path(f) for split in splits.values() for f in split.filepaths]
    except (OSError, ValueError, AttributeError, tfds.core.DatasetNotFoundError):
        found, files = {}, []
    if found != expected or not all(f.is_file() and f.stat().st_size for f in files):
        raise UserError(
            f"{directory} exists but is not a complete toy_cities dataset: delete it and run again."
        )
    return True


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


def prepare(
    data_dir: str | os.PathLike[str],
    configs: Sequence[ToyCitiesConfig],
    workers: int = 1,
    on_scene: Callable[[], None] = lambda: None,
) -> None:
    """Writes configurations; each appears under its name only when it is whole.

    Args:
        data_dir: the directory of all datasets.
        configs: what to write.
        workers: rendering processes; 1 renders in this process.
        on_scene: called after each record.
    """
    logging.set_verbosity(logging.ERROR)  # TFDS warns of every configuration with a parameter
    tfds.disable_progress_bar()
    with _CountingFactory(workers, on_scene) as factory:
        for config in configs:
            builder = ToyCities(factory=factory, config=config, data_dir=os.fspath(data_dir))
            with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints a line before and after
                builder.download_and_prepare()
