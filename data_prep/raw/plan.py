"""Decides what is to be written: datasets that are new, splits that are added, what is replaced.

Synopsis:

  for task in make_plan(builder_cls, raw_dir, root, selections, options, ...):
      ...    # write task.selection to task.directory, beside the splits task.kept

A dataset that is already there is compared with what is asked for. A difference is an error, which
says what differs: neither is it passed over, nor is anything overwritten that nobody gave up.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence

import tensorflow_datasets as tfds

from alp_jax.data.labels import LabelTable
from alp_jax.errors import UserError
from data_prep.common import datasets
from data_prep.common.text import count
from data_prep.raw.builder import RawBuilder, RawConfig
from data_prep.raw.layout import Selection
from data_prep.raw.requests import Request, list_changes, make_request, read_request

Selections = list[tuple[RawConfig, Selection]]


@dataclasses.dataclass
class Task:
    """A configuration to write.

    Attributes:
        config: the configuration.
        directory: of its dataset.
        selection: the pairs to write.
        request: what is noted with the dataset.
        kept: splits of the dataset that is there, which stay.
        replaces: whether a dataset is there.
    """

    config: RawConfig
    directory: pathlib.Path
    selection: Selection
    request: Request
    kept: tuple[str, ...] = ()
    replaces: bool = False


@dataclasses.dataclass
class _Found:
    """What is in the directory of a dataset: {split: number of records} and its request."""

    directory: pathlib.Path
    counts: dict[str, int] | None
    request: Request | None


class Plan:
    """Compares the configurations of a command with the datasets that are there."""

    def __init__(
        self,
        builder_cls: type[RawBuilder],
        root: pathlib.Path,
        configs: Sequence[RawConfig],
        *,
        replace: bool,
        skip_bad: bool,
    ) -> None:
        """Looks at the datasets that are there.

        Args:
            builder_cls: builder of the dataset.
            root: the directory of all datasets.
            configs: configurations to write.
            replace: whether datasets that are there are written anew.
            skip_bad: whether pairs with a fault are left out.
        Raises:
            UserError: if a dataset is damaged and is not written anew.
        """
        self._builder_cls = builder_cls
        self._replace, self._skip_bad = replace, skip_bad
        self._found = {
            c.name: self._look(datasets.directory_of(builder_cls, root, c)) for c in configs
        }

    def _look(self, directory: pathlib.Path) -> _Found:
        try:
            counts = datasets.read_counts(directory)
            return _Found(directory, counts, read_request(directory) if counts else None)
        except UserError:
            if not self._replace:
                raise
            return _Found(directory, None, None)

    def needs_no_files(self, raw_dir: str | os.PathLike[str]) -> bool:
        """Says which datasets are already there, if all are and their raw folder is gone."""
        folder = pathlib.Path(raw_dir).expanduser().resolve()
        found = self._found.values()
        if self._replace or folder.is_dir() or not all(each.counts for each in found):
            return False
        if any(each.request is not None and each.request.folder != str(folder) for each in found):
            return False
        for name, each in self._found.items():
            self._print_there(name, each, f"{raw_dir} is gone, so they were not compared")
        return True

    def _print_there(self, name: str, found: _Found, note: str) -> None:
        assert found.counts is not None
        shown = describe_counts(found.counts)
        print(f"{self._builder_cls.name}/{name} is already there: {shown}. ({note})")

    def list_tasks(
        self, raw_dir: str | os.PathLike[str], selections: Selections, options: Mapping[str, str]
    ) -> list[Task]:
        """Lists what is to be written, and says what is already there.

        Args:
            raw_dir: the raw folder.
            selections: the pairs of files of each configuration.
            options: flag -> value, of flags that change the records and were given.
        Raises:
            UserError: if a dataset that is there was prepared from something else.
        """
        tasks = []
        for config, selection in selections:
            request = make_request(raw_dir, config.layout, selection, options)
            task = self._plan(config, selection, request)
            if task is not None:
                tasks.append(task)
        return tasks

    def _plan(self, config: RawConfig, selection: Selection, request: Request) -> Task | None:
        found = self._found[config.name]
        if found.counts is None:
            there = found.directory.exists()
            return Task(config, found.directory, selection, request, replaces=there)
        written = [s for s in selection.pairs if self._replace or s not in found.counts]
        kept = tuple(split for split in found.counts if split not in written)
        if written and kept:
            self._check_alike(config, found, request, kept)
        changes = []
        if found.request is not None:
            changes = list_changes(found.request, request, selection.pairs, skip_bad=self._skip_bad)
        if changes and not self._replace:
            raise UserError(
                f"{self._title(config)} is already there ({describe_counts(found.counts)}) and was "
                f"prepared from something else: {'; '.join(changes)}; write it anew with --replace "
                f"(the old one stays until the new one is whole), or give another "
                f"{self._builder_cls.RENAMED_BY}."
            )
        if not written:
            note = "prepared from the same"
            if found.request is None:
                note = "prepared by an earlier version, so not compared"
            self._print_there(config.name, found, note)
            return None
        return Task(
            config,
            found.directory,
            dataclasses.replace(selection, pairs={s: selection.pairs[s] for s in written}),
            _merge(request, found.request, written, kept),
            kept,
            replaces=True,
        )

    def _check_alike(
        self, config: RawConfig, found: _Found, request: Request, kept: Sequence[str]
    ) -> None:
        """Refuses to put splits into one dataset whose labels mean different things."""
        info = tfds.builder_from_directory(found.directory).info
        difference = ""
        if ("label" in info.features) != config.layout.has_label:
            has, have = (
                ("labels", "no labels") if "label" in info.features else ("no labels", "labels")
            )
            difference = f"has {has}, and these images have {have}"
        elif LabelTable.from_metadata(info.metadata) != config.layout.table:
            difference = "has label values of other classes"
        elif found.request is not None:
            then = dataclasses.replace(found.request, splits={}, left_out=0)
            changes = list_changes(then, request, {}, skip_bad=self._skip_bad)
            difference = (
                f"was prepared from something else: {'; '.join(changes)}" if changes else ""
            )
        if difference:
            raise UserError(
                f"{self._title(config)} is already there, and its {', '.join(kept)} {difference}: "
                f"give another {self._builder_cls.RENAMED_BY}."
            )

    def _title(self, config: RawConfig) -> str:
        return f"{self._builder_cls.name}/{config.name}"


def _merge(
    now: Request, then: Request | None, written: Sequence[str], kept: Sequence[str]
) -> Request:
    """Returns the request of a dataset of splits that are written and splits that are kept."""
    splits = {split: now.splits[split] for split in written}
    if then is None or not kept:
        return dataclasses.replace(now, splits=splits)
    old = {split: then.splits[split] for split in kept if split in then.splits}
    return dataclasses.replace(now, splits=old | splits, left_out=then.left_out)


def describe_counts(counts: Mapping[str, int]) -> str:
    """Formats the number of images of each split: "3 images in train, 1 image in validation"."""
    return ", ".join(f"{count(number, 'image')} in {split}" for split, number in counts.items())
