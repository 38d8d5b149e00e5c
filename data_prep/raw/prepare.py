"""Writes configurations of a raw dataset, and skips complete ones."""

import functools
import math
import os
import pathlib
import shutil
import time
from collections.abc import Collection, Sequence

import tensorflow_datasets as tfds

from alp_jax.errors import UserError, shorten
from data_prep.common import command, datasets
from data_prep.common.text import count, print_lines
from data_prep.common.workers import WorkerPool
from data_prep.raw.builder import RawBuilder, RawConfig
from data_prep.raw.files import RawFiles
from data_prep.raw.identical import describe_identical
from data_prep.raw.label_map import DEFAULT
from data_prep.raw.layout import Layout, MapReader, NothingFoundError, Selection

_LISTED = 20  # lines of faults and of mismatches after a preparation
_HINT = ": --check lists all"
_PAIRS_PER_WORKER = 8  # starting a worker takes as long as a few pairs
Selections = list[tuple[RawConfig, Selection]]


def select(files: RawFiles, configs: Sequence[RawConfig], *, may_leave_out: bool) -> Selections:
    """Finds the pairs of each configuration, and prints notes for the user.

    Args:
        files: the raw folder.
        configs: the configurations.
        may_leave_out: whether a configuration without files is left out, with a note, if others
            have files.
    Raises:
        NothingFoundError: if a configuration without files may not be left out.
    """
    selections: Selections = []
    absent: list[tuple[RawConfig, NothingFoundError]] = []
    for config in configs:
        try:
            selections.append((config, config.layout.select(files)))
        except NothingFoundError as error:
            absent.append((config, error))
    if absent and not (may_leave_out and selections):
        raise absent[0][1]
    for config, _ in absent:
        print(f"{config.name}: left out, because it needs {config.layout.expected}.")
    for config, selection in selections:
        for note in selection.notes:
            print(f"{config.name}: {note}.")
    images = [
        pair.image
        for _, selection in selections
        for pairs in selection.pairs.values()
        for pair in pairs
    ]
    for line in files.describe_rest() + describe_identical(images):
        print(line)
    return selections


def prepare(
    builder_cls: type[RawBuilder],
    raw_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    configs: Sequence[RawConfig],
    *,
    may_leave_out: bool = False,
    skip_bad: bool = False,
    workers: int = 1,
) -> None:
    """Writes configurations, each atomically, and prints a report.

    Args:
        builder_cls: builder of the dataset.
        raw_dir: the raw folder.
        data_dir: the directory of all datasets.
        configs: configurations to write.
        may_leave_out: as for `select`.
        skip_bad: whether to leave out pairs with a fault.
        workers: number of worker processes; the records do not depend on it.
    Raises:
        UserError: if anything is wrong with the raw folder, a raw file or the data directory.
    """
    root = pathlib.Path(data_dir).expanduser()
    pending = []
    for config in configs:
        counts = datasets.read_counts(datasets.directory_of(builder_cls, root, config))
        if counts is None:
            pending.append(config)
        else:
            print(f"{builder_cls.name}/{config.name} is already there: {_describe(counts)}.")
    if not pending:
        return
    selections = select(RawFiles(raw_dir), pending, may_leave_out=may_leave_out)
    if not skip_bad:
        for _, selection in selections:
            selection.check_partners()
    datasets.check_writable(root)
    _check_space(root, selections)
    total = sum(len(pairs) for _, s in selections for pairs in s.pairs.values())
    workers = limit_workers(workers, total)
    reports = []
    with (
        command.progress(f"preparing {builder_cls.name}", total) as advance,
        WorkerPool(workers) as pool,
    ):
        for config, selection in selections:
            start = time.monotonic()
            make_builder = functools.partial(
                builder_cls,
                config=config,
                data_dir=os.fspath(root),
                selection=selection,
                pool=pool,
                skip_bad=skip_bad,
                on_pair=advance,
            )
            manual = tfds.download.DownloadConfig(manual_dir=os.fspath(raw_dir))
            builder = datasets.write(make_builder, manual)
            reports.append((builder, time.monotonic() - start))
    for builder, seconds in reports:
        _report(builder, seconds, workers)
    for config, _ in selections:
        for path in datasets.leftovers(datasets.directory_of(builder_cls, root, config)):
            print(f"A stopped preparation left {path}: delete it, unless one is still running.")


def limit_workers(workers: int, num_pairs: int) -> int:
    """Returns the number of worker processes that are worth starting."""
    return min(workers, math.ceil(num_pairs / _PAIRS_PER_WORKER))


def _report(builder: RawBuilder, seconds: float, workers: int) -> None:
    counts = {name: split.num_examples for name, split in builder.info.splits.items()}
    rate = (sum(counts.values()) + len(builder.faults)) / seconds
    processes = "1 process" if workers == 1 else f"{workers} processes"
    print(
        f"{builder.name}/{builder.builder_config.name} is in {builder.data_path}: "
        f"{_describe(counts)} ({seconds:.1f} s, {rate:.1f} images a second with {processes})."
    )
    for heading, lines in group_remarks(builder.remarks).items():
        print(f"  {heading}: {len(lines):,}")
        print_lines(lines, _LISTED, hint=_HINT)
    print_unmet_keys(builder.builder_config.layout, builder.keys)
    if builder.faults:
        print(f"  {count(len(builder.faults), 'bad file')}, left out with their partners:")
        lines = [f"{fault.file} {fault.reason}" for fault in builder.faults]
        print_lines(lines, _LISTED, hint=_HINT)


def group_remarks(remarks: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Groups remarks about pairs by their heading."""
    grouped: dict[str, list[str]] = {}
    for heading, line in remarks:
        grouped.setdefault(heading, []).append(line)
    return grouped


def print_unmet_keys(layout: Layout, met: Collection[str]) -> None:
    """Prints the values, colours or names of the user's label map that no label held."""
    keys = layout.read_label.meanings if isinstance(layout.read_label, MapReader) else {}
    unmet = [key for key in keys if key not in met and key != DEFAULT]
    if unmet:
        print(f"  In the label map, but in no label: {shorten(unmet, _LISTED)}.")


def _describe(counts: dict[str, int]) -> str:
    return ", ".join(f"{count(number, 'image')} in {split}" for split, number in counts.items())


def _check_space(root: pathlib.Path, selections: Selections) -> None:
    """Refuses a disk without space for the images that are copied because they keep their size."""
    needed = sum(
        pair.image.num_bytes
        for config, selection in selections
        if config.size is None
        for pairs in selection.pairs.values()
        for pair in pairs
    )
    free = shutil.disk_usage(root).free
    if needed > free:
        raise UserError(
            f"{root} has {free / 1e9:.1f} GB left, but the images take {needed / 1e9:.1f} GB: "
            "free some space, or store smaller images with --size=HEIGHT,WIDTH."
        )
