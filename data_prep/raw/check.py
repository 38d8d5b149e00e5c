"""Reads every file of a raw dataset as preparation does, and lists all faults; writes nothing."""

import collections
import os
from collections.abc import Sequence
from typing import NamedTuple

from data_prep.common import command
from data_prep.common.tally import Tally
from data_prep.common.text import count, print_lines
from data_prep.common.workers import WorkerPool
from data_prep.raw.builder import RawBuilder, RawConfig
from data_prep.raw.files import RawFiles
from data_prep.raw.layout import REPLACE, Fault, Pair
from data_prep.raw.meaning import Labels
from data_prep.raw.plan import Selections
from data_prep.raw.prepare import (
    group_remarks,
    limit_workers,
    print_keys,
    print_meaning,
    select,
)
from data_prep.raw.records import Recipe, Record, check_pair

_LISTED = 100  # lines of each kind


def check(
    builder_cls: type[RawBuilder],
    raw_dir: str | os.PathLike[str],
    configs: Sequence[RawConfig],
    *,
    may_leave_out: bool,
    workers: int,
) -> int:
    """Reads all files of the configurations, and prints their faults.

    Args:
        builder_cls: builder of the dataset.
        raw_dir: the raw folder.
        configs: the configurations.
        may_leave_out: as for `prepare.select`.
        workers: number of worker processes.
    Returns:
        0 if everything can be prepared, else 1.
    Raises:
        UserError: if the folder does not exist, a zip file in it is damaged, or nothing is found.
    """
    files = RawFiles(raw_dir)
    print(f"Checking {builder_cls.name} in {files.root}.")
    selections = select(files, configs, may_leave_out=may_leave_out)
    work = _unique_pairs(selections)
    tallies: dict[str, Tally] = {config.name: Tally() for config in configs}
    faults = {(f.file, f.kind): f for _, selection in selections for f in selection.faults}
    remarks: list[tuple[str, str]] = []
    keys: set[str] = set()
    with (
        command.progress(f"checking {builder_cls.name}", len(work)) as advance,
        WorkerPool(limit_workers(workers, len(work))) as pool,
    ):
        pieces = [(item.config.recipe(item.split), item.pair) for item in work]
        for item, record in zip(work, pool.map(_check_work, pieces), strict=True):
            for name, split in item.places:
                tallies[name].add(split, record.digest, record.pixels, record.name)
            faults |= {(fault.file, fault.kind): fault for fault in record.faults}
            remarks += record.remarks
            keys |= record.keys
            advance()
    for heading, lines in group_remarks(remarks).items():
        _print_group(heading, lines)
    for config, _ in selections:
        print_keys(config.layout, keys)
    labels = []
    for config, selection in selections:
        tally = tallies[config.name]
        pixels = {split: tally.pixels[split] for split in selection.pairs if split in tally.pixels}
        labels.append(Labels(config.layout, pixels, tally.names))
    return _print_outcome(list(faults.values()), labels)


class _Work(NamedTuple):
    """A pair to check; places: the configurations that have it, and the split in each."""

    config: RawConfig
    split: str
    pair: Pair
    places: list[tuple[str, str]]


def _unique_pairs(selections: Selections) -> list[_Work]:
    """Lists every image once, with its label if any configuration has one.

    Configurations that read labels in different ways have it once each.
    """
    places = [
        (config, split, pair)
        for config, selection in selections
        for split, pairs in selection.pairs.items()
        for pair in pairs
    ]
    labelled = {pair.image for _, _, pair in places if pair.label is not None}
    work: dict[tuple[object, int], _Work] = {}
    for config, split, pair in places:
        if pair.label is not None or pair.image not in labelled:
            key = (pair.image, id(config.layout.read_label))
            work.setdefault(key, _Work(config, split, pair, [])).places.append((config.name, split))
    return list(work.values())


def _check_work(work: tuple[Recipe, Pair]) -> Record:
    return check_pair(*work)


def _print_outcome(faults: Sequence[Fault], labels: Sequence[Labels]) -> int:
    """Prints what the labels mean and all faults; returns the exit status."""
    doubts = 0
    for each in labels:
        if each.pixels:
            print(f"{each.layout.name}:")
        doubts += print_meaning(each)
    wrong = [fault for each in labels if (fault := each.find_fault())]
    for fault in wrong:
        print(f"Wrong meaning: {fault}")
    if faults:
        _print_faults(faults)
    elif doubts and not wrong:
        print(
            "No file is damaged, and everything can be prepared; see the "
            f"{count(doubts, 'warning')} above about what the labels mean."
        )
    elif not wrong:
        print("Nothing is wrong: everything can be prepared.")
    return 1 if faults or wrong else 0


def _print_faults(faults: Sequence[Fault]) -> None:
    for kind in dict.fromkeys(fault.kind for fault in faults):
        group = [fault for fault in faults if fault.kind == kind]
        _print_group(kind.capitalize(), [f"{fault.file} {fault.reason}" for fault in group])
        for remedy in dict.fromkeys(fault.remedy for fault in group if fault.remedy != REPLACE):
            print(f"    {remedy[0].upper()}{remedy[1:]}.")
        pixels: collections.Counter[str] = collections.Counter()
        holders: collections.Counter[str] = collections.Counter()
        for fault in group:
            pixels.update(fault.values)
            holders.update(fault.values.keys())
        for value, number in sorted(pixels.items()):
            print(
                f"    in all: {value} in {count(holders[value], 'file')}, {count(number, 'pixel')}"
            )
    print(
        f"Something is wrong with {count(len(faults), 'file')}: replace what is wrong, or prepare "
        "with --skip_bad, which leaves it out together with its partners."
    )


def _print_group(heading: str, lines: Sequence[str]) -> None:
    if lines:
        print(f"{heading}: {len(lines):,}")
        print_lines(lines, _LISTED)
