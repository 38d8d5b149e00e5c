"""Writes the datasets of the configurations, and checks which of them are complete."""

import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

from data_prep.common import datasets
from data_prep.toy_cities.builder import ToyCities, ToyCitiesConfig
from data_prep.toy_cities.render import Domain, Settings, Split
from data_prep.toy_cities.scenes import EncodedScene, SceneFactory


class _CountingFactory(SceneFactory):
    """Calls `on_scene` after every scene, for a progress bar."""

    def __init__(self, workers: int, on_scene: Callable[[], None]) -> None:
        super().__init__(workers)
        self._on_scene = on_scene

    def scenes(
        self, settings: Settings, domain: Domain, split: Split, count: int
    ) -> Iterator[EncodedScene]:
        for scene in super().scenes(settings, domain, split, count):
            yield scene
            self._on_scene()


def is_complete(data_dir: str | os.PathLike[str], config: ToyCitiesConfig) -> bool:
    """Returns whether the dataset of a configuration exists with all its records.

    Raises:
        UserError: if its directory exists, but has other content.
    """
    directory = datasets.directory_of(ToyCities, data_dir, config)
    found = datasets.read_counts(directory)
    expected = {split.name.lower(): count for split, count in config.counts().items()}
    if found not in (None, expected):
        raise datasets.incomplete(directory, f"it has {found} images, not {expected}")
    return found is not None


def prepare(
    data_dir: str | os.PathLike[str],
    configs: Sequence[ToyCitiesConfig],
    workers: int = 1,
    on_scene: Callable[[], None] = lambda: None,
    *,
    replace: bool = False,
) -> None:
    """Writes the datasets of configurations, each atomically.

    Args:
        data_dir: directory of all datasets.
        configs: configurations to write.
        workers: number of rendering processes; 1 renders in this process.
        on_scene: called after each record.
        replace: whether to write datasets anew that are there.
    """
    root = pathlib.Path(data_dir)
    with _CountingFactory(workers, on_scene) as factory:
        for config in configs:
            directory = datasets.directory_of(ToyCities, root, config)
            make_builder = functools.partial(ToyCities, factory=factory, config=config)
            with datasets.leaving_no_empty_folders(directory):
                datasets.write(make_builder, directory, replace=replace)
