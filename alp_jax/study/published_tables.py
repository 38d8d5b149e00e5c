"""Reads the paper's Tables 1 to 4 (published/table_N.csv), to print beside a full-size study.

Synopsis:

  task = task_of("gta5/all_720x1280", label_set="cityscapes_19")      # "gta5_to_cityscapes"
  for row in published_rows(task): print(row.table, row.method, row.mean_iou)
"""

import csv
import dataclasses
import functools
import importlib.resources
from collections.abc import Mapping

from alp_jax.data.labels import load_label_set

TABLES = (1, 2, 3, 4)
# Source dataset -> (label set, task).
_TASKS = {
    "gta5": ("cityscapes_19", "gta5_to_cityscapes"),
    "synthia_rand_cityscapes": ("cityscapes_16", "synthia_to_cityscapes"),
}
TASKS = tuple(task for _, task in _TASKS.values())


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """One row as printed, in percent; None if the paper has no number or our copy is illegible.

    Attributes:
      table: 1 to 4.
      task: gta5_to_cityscapes or synthia_to_cityscapes.
      method: name of the method, as printed.
      variant: variant here of the same method, or "".
      iou_per_class: class name -> IoU.
      mean_iou, mean_iou_13: as printed, even if they are not the mean of the row.
      note: remark on missing numbers.
    """

    table: int
    task: str
    method: str
    variant: str
    iou_per_class: Mapping[str, float | None]
    mean_iou: float | None
    mean_iou_13: float | None
    note: str


def task_of(source: str, *, label_set: str) -> str | None:
    """Returns the paper's task with this source dataset and label set, or None."""
    expected, task = _TASKS.get(source.partition("/")[0], ("", None))
    return task if label_set == expected else None


@functools.cache
def published_rows(task: str | None) -> tuple[PublishedRow, ...]:
    """Reads the rows of one task, in the order of the tables; task None has no rows."""
    folder = importlib.resources.files("alp_jax.study") / "published"
    rows: list[PublishedRow] = []
    for table in TABLES:
        text = (folder / f"table_{table}.csv").read_text(encoding="utf-8")
        rows += [_parse(row) for row in csv.DictReader(text.splitlines())]
    return tuple(row for row in rows if row.task == task)


def find_row(variant: str, table: int) -> PublishedRow | None:
    """Finds a table's row of a variant; None if the table has none."""
    rows = (row for task in TASKS for row in published_rows(task))
    return next((row for row in rows if (row.variant, row.table) == (variant, table)), None)


def _parse(row: dict[str, str]) -> PublishedRow:
    names = [name for name in load_label_set("cityscapes_19").names if name in row]
    return PublishedRow(
        table=int(row["table"]),
        task=row["task"],
        method=row["method"],
        variant=row["variant"],
        iou_per_class={name: _number(row[name]) for name in names},
        mean_iou=_number(row["mean_iou"]),
        mean_iou_13=_number(row.get("mean_iou_13", "")),
        note=row["note"],
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
