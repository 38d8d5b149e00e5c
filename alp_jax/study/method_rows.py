"""Collects the results of an experiment: a row for each method, and what additions change.

Synopsis:

  rows = collect(experiment, choices, study)
  for difference in compare_groups(rows, "mean_iou"): ...
"""

import dataclasses
from collections.abc import Mapping, Sequence

from scipy import stats

from alp_jax.evaluation.metrics import MEAN_IOU
from alp_jax.study import published_tables, statistics
from alp_jax.study.choices import Choice
from alp_jax.study.experiment import (
    Entry,
    Experiment,
    Pair,
    pair_additions,
    pair_with_source_only,
)
from alp_jax.study.published_tables import PublishedRow
from alp_jax.study.scores import RunScores, Study, describe_value, shorten_field
from alp_jax.study.statistics import PairedDifference

MEAN_IOU_13 = "mean_iou_13"
# The paper's tables of many methods: SYNTHIA and GTA5 to Cityscapes.
TABLES = (1, 2)
# The paper's own ablations, with the methods that those tables lack.
_ABLATIONS = {1: 3, 2: 4}


@dataclasses.dataclass(frozen=True)
class MethodRow:
    """The results of one method.

    Attributes:
      entry: the method.
      choice: what it chose on the evaluation split.
      runs: its finished runs on the reported seeds, by seed.
      published: number of a table of the paper -> the method's row there.
    """

    entry: Entry
    choice: Choice
    runs: Sequence[RunScores]
    published: Mapping[int, PublishedRow]

    def values(self, score: str) -> list[float | None]:
        """Lists a mean IoU of each run; None where it is undefined."""
        return [run.last.get(score) for run in self.runs]

    def class_values(self, name: str) -> list[float | None]:
        """Lists the IoU of a class of each run."""
        return [run.last["iou_per_class"][name] for run in self.runs]

    def mean(self, score: str) -> float | None:
        """Computes the mean over the runs of a mean IoU; None without."""
        defined = [value for value in self.values(score) if value is not None]
        return statistics.mean_and_std(defined)[0] if defined else None

    def published_number(self, table: int, name: str) -> float | None:
        """Returns a mean IoU of a table of the paper, in percent; None if it has none."""
        row = self.published.get(table)
        return None if row is None else {MEAN_IOU: row.mean_iou, MEAN_IOU_13: row.mean_iou_13}[name]

    def describe_choice(self) -> str:
        """Describes the chosen candidate: "entropy.weight 0.01"; "-" without a choice."""
        if self.choice.chosen is None:
            return "-"
        return ", ".join(
            f"{shorten_field(field)} {describe_value(self.choice.fields[field])}"
            for field in self.entry.varied
        )


def collect(
    experiment: Experiment, choices: Mapping[str, Choice], study: Study
) -> tuple[MethodRow, ...]:
    """Collects the rows of all methods with a finished run, in the order of the experiment."""
    runs = study.by_setting()
    return tuple(
        MethodRow(entry, choices.get(entry.name, Choice({})), runs[entry.name], _publish(entry))
        for entry in experiment.entries
        if runs.get(entry.name)
    )


def _publish(entry: Entry) -> dict[int, PublishedRow]:
    variant = {"source_only+agp": "agp_gi", "source_only+alp": "alp_gi"}.get(
        entry.variant, entry.variant
    )
    found = {}
    for table in TABLES:
        row = published_tables.find_row(variant, table)
        row = row or published_tables.find_row(variant, _ABLATIONS[table])
        if row is not None:
            found[table] = row
    return found


@dataclasses.dataclass(frozen=True)
class GroupDifference:
    """What an addition changes, or a method changes in source-only.

    Attributes:
      base: the method that is added to, or source-only.
      first, second: the rows that are compared, first minus second.
      found: the paired difference.
    """

    base: MethodRow
    first: MethodRow
    second: MethodRow
    found: PairedDifference


def compare_groups(rows: Sequence[MethodRow], score: str = MEAN_IOU) -> list[GroupDifference]:
    """Compares every addition with its base, and random patches with whole maps on the same base.

    Args:
      rows: rows of `collect`.
      score: name of a mean IoU in a summary.
    Returns:
      the differences of `pair_additions` whose rows both have runs of the same seed.
    """
    return _compare(pair_additions([row.entry for row in rows]), rows, score)


def compare_with_source_only(
    rows: Sequence[MethodRow], score: str = MEAN_IOU
) -> list[GroupDifference]:
    """Compares every method that is no addition with source-only, as `compare_groups` does."""
    return _compare(pair_with_source_only([row.entry for row in rows]), rows, score)


def _compare(pairs: Sequence[Pair], rows: Sequence[MethodRow], score: str) -> list[GroupDifference]:
    row_of = {row.entry.name: row for row in rows}
    compared = []
    for pair in pairs:
        base, first, second = (row_of[entry.name] for entry in pair)
        found = statistics.compare_runs(
            first.entry.title, first.runs, second.entry.title, second.runs, score
        )
        if found is not None:
            compared.append(GroupDifference(base, first, second, found))
    return compared


@dataclasses.dataclass(frozen=True)
class Order:
    """The order of methods here and in a table of the paper.

    Attributes:
      table: number of the table.
      score: the mean IoU that orders: over 13 classes in Table 1, which prints it for all methods.
      rows: (row, mean here in [0, 1], number of the paper in percent), the best of the paper first.
      correlation: Spearman's rank correlation; None for fewer than three methods.
    """

    table: int
    score: str
    rows: tuple[tuple[MethodRow, float, float], ...]
    correlation: float | None


def order_as_published(rows: Sequence[MethodRow], table: int) -> Order:
    """Orders the methods that a table of the paper has, too, by its numbers."""
    has_13 = any(row.mean(MEAN_IOU_13) is not None for row in rows)
    score = MEAN_IOU_13 if table == 1 and has_13 else MEAN_IOU
    found = []
    for row in rows:
        ours, number = (
            row.mean(score),
            row.published_number(table, MEAN_IOU_13 if table == 1 else MEAN_IOU),
        )
        if ours is not None and number is not None:
            found.append((row, ours, number))
    found.sort(key=lambda item: -item[2])
    correlation = None
    if len(found) > 2:
        correlation = float(stats.spearmanr([o for _, o, _ in found], [n for *_, n in found])[0])
    return Order(table, score, tuple(found), correlation)
