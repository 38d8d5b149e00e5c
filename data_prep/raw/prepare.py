"""Writes configurations of a raw dataset, and leaves alone what is already there."""

import contextlib
import functools
import math
import os
import pathlib
import shutil
import time
import types
from collections.abc import Mapping, Sequence, Set

import tensorflow_datasets as tfds

from alp_jax.errors import UserError, shorten
from data_prep.common import command, datasets
from data_prep.common.text import count, print_lines
from data_prep.common.workers import WorkerPool
from data_prep.raw import unreadable
from data_prep.raw.builder import RawBuilder, RawConfig
from data_prep.raw.files import RawFiles
from data_prep.raw.identical import describe_identical
from data_prep.raw.label_map import DEFAULT
from data_prep.raw.layout import Layout, NothingFoundError
from data_prep.raw.meaning import Labels
from data_prep.raw.plan import Plan, Selections, Task, describe_counts

_LISTED = 20  # lines of faults and of mismatches after a preparation
_HINT = ": --check lists all"
_PAIRS_PER_WORKER = 8  # starting a worker takes as long as a few pairs


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
            selections.append((config, unreadable.select(config.layout, files)))
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
    replace: bool = False,
    options: Mapping[str, str] = types.MappingProxyType({}),
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
        replace: whether to write datasets anew that are there; the old one stays until the new one
            is whole.
        options: flag -> value, of flags that change the records and were given.
        workers: number of worker processes; the records do not depend on it.
    Raises:
        UserError: if anything is wrong with the raw folder, a raw file or the data directory, or
            with what the labels mean, or a dataset that is there was prepared from something else.
    """
    root = pathlib.Path(data_dir).expanduser()
    plan = Plan(builder_cls, root, configs, replace=replace, skip_bad=skip_bad)
    if plan.needs_no_files(raw_dir):
        return
    selections = select(RawFiles(raw_dir), configs, may_leave_out=may_leave_out)
    tasks = plan.list_tasks(raw_dir, selections, options)
    if not skip_bad:
        for task in tasks:
            task.selection.check_partners()
    total = sum(len(pairs) for task in tasks for pairs in task.selection.pairs.values())
    workers = limit_workers(workers, total)
    manual = tfds.download.DownloadConfig(manual_dir=os.fspath(raw_dir))
    reports = []
    with contextlib.ExitStack() as stack:
        for task in tasks:
            stack.enter_context(datasets.leaving_no_empty_folders(task.directory))
        if tasks:
            datasets.check_writable(root)
            _check_space(root, tasks)
        advance = stack.enter_context(command.progress(f"preparing {builder_cls.name}", total))
        pool = stack.enter_context(WorkerPool(workers))
        for task in tasks:
            start = time.monotonic()
            make_builder = functools.partial(
                builder_cls,
                config=task.config,
                selection=task.selection,
                request=task.request,
                pool=pool,
                skip_bad=skip_bad,
                on_pair=advance,
            )
            builder = datasets.write(
                make_builder,
                task.directory,
                kept=task.kept,
                replace=task.replaces,
                download_config=manual,
            )
            reports.append((task, builder, time.monotonic() - start))
    for task, builder, seconds in reports:
        _report(task, builder, seconds, workers)
    for task in tasks:
        for path in datasets.leftovers(task.directory):
            print(f"A stopped preparation left {path}, which nothing reads.")


def limit_workers(workers: int, num_pairs: int) -> int:
    """Returns the number of worker processes that are worth starting."""
    return min(workers, math.ceil(num_pairs / _PAIRS_PER_WORKER))


def _report(task: Task, builder: RawBuilder, seconds: float, workers: int) -> None:
    counts = {name: split.num_examples for name, split in builder.info.splits.items()}
    rate = (sum(counts.values()) + len(builder.faults)) / seconds
    processes = "1 process" if workers == 1 else f"{workers} processes"
    shown = describe_counts(counts)
    shown += f", beside {', '.join(task.kept)} as before" if task.kept else ""
    print(
        f"{builder.name}/{task.config.name} is in {task.directory}: "
        f"{shown} ({seconds:.1f} s, {rate:.1f} images a second with {processes})."
    )
    for heading, lines in group_remarks(builder.remarks).items():
        print(f"  {heading}: {len(lines):,}")
        print_lines(lines, _LISTED, hint=_HINT)
    print_keys(builder.builder_config.layout, builder.keys)
    if builder.faults:
        print(f"  {count(len(builder.faults), 'bad file')}, left out with their partners:")
        lines = [f"{fault.file} {fault.reason}" for fault in builder.faults]
        print_lines(lines, _LISTED, hint=_HINT)
    print_meaning(builder.labels)


def group_remarks(remarks: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Groups remarks about pairs by their heading."""
    grouped: dict[str, list[str]] = {}
    for heading, line in remarks:
        grouped.setdefault(heading, []).append(line)
    return grouped


def print_keys(layout: Layout, met: Set[str]) -> None:
    """Prints entries of the user's label map that no label held, and what is under its default."""
    keys = {} if layout.table is None else layout.meanings
    unmet = [key for key in keys if key not in met and key != DEFAULT]
    if unmet:
        print(f"  In the label map, but in no label: {shorten(unmet, _LISTED)}.")
    others = sorted(met - keys.keys()) if keys else []
    if others:
        print(f"  Under default of the label map: {shorten(others, _LISTED)}.")


def print_meaning(labels: Labels) -> int:
    """Prints the share of each class in labels, and what may be wrong; returns how many doubts."""
    for line in labels.list_shares():
        print(f"  {line}")
    doubts = labels.list_doubts()
    for doubt in doubts:
        print(f"Warning: {doubt}")
    return len(doubts)


def _check_space(root: pathlib.Path, tasks: Sequence[Task]) -> None:
    """Refuses a disk without space for the images that are copied because they keep their size."""
    needed = sum(
        pair.image.num_bytes
        for task in tasks
        if task.config.size is None
        for pairs in task.selection.pairs.values()
        for pair in pairs
    )
    free = shutil.disk_usage(root).free
    if needed > free:
        raise UserError(
            f"{root} has {free / 1e9:.1f} GB left, but the images take {needed / 1e9:.1f} GB: "
            "free some space, or store smaller images with --size=HEIGHT,WIDTH."
        )
