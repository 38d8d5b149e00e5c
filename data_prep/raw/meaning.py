"""Shows what the labels of a dataset mean: the share of each class, and whether it can be right.

Synopsis:

  labels = Labels(layout, tally.pixels)
  for line in labels.list_shares(): print(line)
  fault = labels.find_fault()              # a sentence, or ""
  for line in labels.list_doubts(): print(line)

Nothing in a label file says which scheme its values are of. Values that nobody explained are taken
for Cityscapes label ids; train ids of Cityscapes, masks of 0 and 255, or classes 0, 1, 2 are then
sound files with a wrong meaning. Their numbers tell them apart.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from alp_jax.data.labels import CITYSCAPES_TABLE, IGNORE_LABEL, LabelTable, load_label_set
from alp_jax.errors import printable, shorten
from data_prep.common.text import count
from data_prep.raw.layout import Layout
from data_prep.raw.named_maps import LABEL_IDS, TRAIN_IDS

IGNORED = "ignored"
_UNITS = 10_000  # Shares are shown in hundredths of a percent.
_TRAIN_IDS = frozenset({*range(19), IGNORE_LABEL})
# Label ids of no class, which in train ids are road, sidewalk, building and wall.
_VOID_IDS = frozenset({0, 1, 2, 3})
# Traffic sign is 20; vegetation, sky, people and vehicles are beyond.
_LAST_BEFORE_VEGETATION = 20
# Vegetation, sky and car as train ids.
_COMMON_TRAIN_IDS = (8, 10, 13)
_MOSTLY = 0.9


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of a configuration.

    Attributes:
        layout: of the configuration.
        pixels: split -> [N, 256] pixels of each stored value in each record.
        names: split -> names of these records; nothing if unknown.
    """

    layout: Layout
    pixels: Mapping[str, np.ndarray]
    names: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    @property
    def table(self) -> LabelTable:
        """Classes of the stored values."""
        return self.layout.table or CITYSCAPES_TABLE

    def count_classes(self, split: str) -> dict[str, int]:
        """Returns class -> its pixels in a split, in the order of the values; `ignored` is last."""
        totals = self.pixels[split].sum(axis=0)
        counts = dict.fromkeys([*self.table.class_names, IGNORED], 0)
        for value in np.flatnonzero(totals).tolist():
            counts[self.table.names.get(value, IGNORED)] += int(totals[value])
        return counts

    def list_shares(self) -> list[str]:
        """Formats a table: a line for each class that occurs, a column for each split, in percent.

        A last line names the classes that never occur; of Cityscapes' classes, the evaluated ones.
        """
        if not self.pixels:
            return []
        counts = {split: self.count_classes(split) for split in self.pixels}
        shares = {split: round_shares(list(found.values())) for split, found in counts.items()}
        names = [*self.table.class_names, IGNORED]
        there = [n for n in names if n == IGNORED or any(found[n] for found in counts.values())]
        width = max(map(len, there))
        columns = {split: max(len(split), len("100.00")) for split in counts}
        heads = "  ".join(split.rjust(columns[split]) for split in counts)
        lines = [f"pixels in percent{'':{max(width - 17, 0)}}  {heads}"]
        width = max(width, 17)
        for row, name in enumerate(names):
            if name in there:
                cells = [
                    f"{shares[split][row] / 100:.2f}".rjust(columns[split]) for split in counts
                ]
                lines.append(f"{name:{width}}  {'  '.join(cells)}")
        absent = [name for name in self._expected_names() if name not in there]
        if absent:
            lines.append(f"never there: {', '.join(absent)}")
        return lines

    def _expected_names(self) -> tuple[str, ...]:
        if self.layout.table is None:
            return load_label_set("cityscapes_19").names
        return self.table.class_names

    def find_fault(self) -> str:
        """Returns what is certainly wrong with the meaning of the labels, as a sentence, or ""."""
        for split, pixels in self.pixels.items():
            values = np.flatnonzero(pixels.any(axis=0)).tolist()
            if not any(value in self.table.names for value in values):
                return self._describe_unlabelled(split, values)
        values = self._values()
        if self.layout.assumes_label_ids and _look_like_train_ids(values):
            return (
                f"The labels hold only the values {_list(values)}, as Cityscapes train ids do (0 "
                "is road, 18 is bicycle), but would be read as Cityscapes label ids (7 is road, 0 "
                f"to 3 are no class): {self._remedy()}."
            )
        return ""

    def _describe_unlabelled(self, split: str, values: list[int]) -> str:
        start = f"Every pixel of the labels in {split} is ignored"
        if self.layout.meanings:
            named = shorten(list(self.layout.meanings), 4)
            return (
                f"{start}, as they hold nothing that the label map gives a class ({named}): write "
                "the values or colours of the label files into the label map."
            )
        if self.layout.table is not None:
            return (
                f"{start}, as {_list(values)} is no class of this dataset: take the label files as "
                "they were published."
            )
        return (
            f"{start}, as {_list(values)} are no class in Cityscapes label ids: {self._remedy()}."
        )

    def _remedy(self) -> str:
        if self.layout.takes_label_map:
            return (
                f"say what the values mean with --label_map={TRAIN_IDS}, --label_map={LABEL_IDS}, "
                "or a file with classes of your own such as {0: background, 255: crack}"
            )
        return (
            "take the label files as they were published, or prepare these with python -m "
            f"data_prep.image_folder --label_map={TRAIN_IDS}"
        )

    def _values(self) -> list[int]:
        """Lists the stored values that occur in any split."""
        if not self.pixels:
            return []
        totals = sum(pixels.sum(axis=0) for pixels in self.pixels.values())
        return [int(value) for value in np.flatnonzero(totals)]

    def list_doubts(self) -> list[str]:
        """Lists what may be wrong with the meaning of the labels, as sentences."""
        doubts = []
        values = self._values()
        if self.layout.assumes_label_ids and 1 <= len(values) <= 2:
            doubts.append(
                f"The labels hold only {_list(values)}, which are read as Cityscapes label ids "
                f"({self._name(values)}); if they are masks or classes of your own, "
                f"{self._remedy()}."
            )
        for split, pixels in self.pixels.items():
            doubts += self._doubt_split(split, pixels)
            if self.layout.assumes_label_ids:
                doubts += self._doubt_records(split, pixels)
        if self.layout.assumes_label_ids:
            doubts += self._doubt_scheme(values)
        return doubts

    def _doubt_scheme(self, values: list[int]) -> list[str]:
        """Doubts label ids without any of the classes that nearly every street has."""
        known = [value for value in values if value != IGNORE_LABEL]
        if len(known) < 3 or max(known) > _LAST_BEFORE_VEGETATION or self.find_fault():
            return []
        start = (
            f"The labels hold only the values {_list(values)}, and are read as Cityscapes label "
            f"ids ({self._name(known[:3])}, ...), but "
        )
        if set(values) <= _TRAIN_IDS:
            names = load_label_set("cityscapes_19").names
            shown = ", ".join(f"{value} is {names[value]}" for value in known[:3])
            return [f"{start}they may as well be train ids ({shown}, ...): {self._remedy()}."]
        if len(known) < 4:
            return []
        return [
            f"{start}no pixel is vegetation (21), sky (23) or car (26), as if they had other "
            f"numbers, such as those of PASCAL VOC or train ids + 1: {self._remedy()}."
        ]

    def _doubt_records(self, split: str, pixels: np.ndarray) -> list[str]:
        """Doubts labels that look like train ids among others that hold label ids."""
        there = pixels > 0
        is_train_id = np.isin(np.arange(256), list(_TRAIN_IDS))
        beyond = there[:, ~is_train_id].any(axis=1)
        alike = ~beyond & there[:, 0] & there[:, _COMMON_TRAIN_IDS].any(axis=1)
        if not alike.any() or not beyond.any():
            return []
        number = int(np.count_nonzero(alike))
        names = self.names.get(split, ())
        first = f" (the first is {printable(names[int(np.argmax(alike))])})" if names else ""
        return [
            f"{number:,} of {count(len(pixels), 'label')} in {split}{first} look like Cityscapes "
            "train ids, as they hold 0 and no value above 18, but others hold label ids, as which "
            f"all are read: do they hold the same kind of values? If so, {self._remedy()}."
        ]

    def _doubt_split(self, split: str, pixels: np.ndarray) -> list[str]:
        is_class = np.isin(np.arange(256), list(self.table.names))
        labelled = pixels[:, is_class].sum(axis=1)
        ignored = 1 - labelled.sum() / pixels.sum()
        empty = int(np.count_nonzero(labelled == 0))
        doubts = []
        if 2 * empty > len(pixels):
            doubts.append(
                f"{empty:,} of {count(len(pixels), 'label')} in {split} hold nothing but ignored "
                "pixels: are they the right files, and does the label map name their values?"
            )
        elif ignored > _MOSTLY:
            doubts.append(
                f"{100 * ignored:.1f} % of the pixels in {split} are ignored: does the label map "
                "name all values?"
            )
        values = np.flatnonzero(pixels.any(axis=0)).tolist()
        names = {self.table.names[value] for value in values if is_class[value]}
        if self.layout.table is None and names and names.isdisjoint(self._expected_names()):
            shown = shorten([name for name in self.table.class_names if name in names])
            doubts.append(
                f"{shown} are the only classes in {split}, none of those that Cityscapes' label "
                f"sets have; {self._remedy()}."
            )
        if len(names) == 1:
            doubts.append(
                f"{names.pop()} is the only class in {split}: a network learns nothing from one "
                "class; do the labels hold the values that were meant?"
            )
        return doubts

    def _name(self, values: list[int]) -> str:
        return ", ".join(f"{value} is {self.table.names.get(value, IGNORED)}" for value in values)


def _look_like_train_ids(values: list[int]) -> bool:
    """Tells whether values can hardly be label ids.

    Images of streets have vegetation, sky, people or vehicles, whose label ids are 19 and more.
    """
    return set(values) <= _TRAIN_IDS and not _VOID_IDS.isdisjoint(values)


def _list(values: list[int]) -> str:
    return shorten(list(map(str, values)), 20)


def round_shares(counts: list[int]) -> list[int]:
    """Rounds shares to hundredths of a percent that sum to 100 percent (largest remainders)."""
    total = sum(counts)
    if total == 0:
        return [0] * len(counts)
    shares = [number * _UNITS // total for number in counts]
    missing = _UNITS - sum(shares)
    by_remainder = sorted(
        range(len(counts)), key=lambda i: (counts[i] * _UNITS) % total, reverse=True
    )
    for index in by_remainder[:missing]:
        shares[index] += 1
    return shares
