"""Compares the classes of a dataset with the classes of a label set, by name.

Synopsis:

  check_shared("mine:train", table, label_set)                   # or UserError
  for line in describe_unmatched("mine:train", table, label_set): logger.info(line)
"""

from collections.abc import Collection

from alp_jax.data.class_names import find_near
from alp_jax.data.labels import (
    CITYSCAPES_TABLE,
    LabelSet,
    LabelTable,
    list_label_sets,
    load_label_set,
)
from alp_jax.errors import UserError, shorten

_LISTED = 12


def check_shared(title: str, table: LabelTable, label_set: LabelSet) -> None:
    """Refuses a dataset that shares no class with a label set.

    Args:
      title: name of the dataset in messages.
      table: label table of the dataset.
      label_set: label set of the run.
    Raises:
      UserError: if no class is shared; the message suggests names that are nearly the same.
    """
    ours = label_set.train_id_by_name
    if any(name in ours for name in table.class_names):
        return
    near = {name: find_near(name, ours) for name in table.class_names}
    hints = [f"{theirs!r} is nearly {found!r}" for theirs, found in near.items() if found]
    hint = f" ({'; '.join(hints[:3])})" if hints else ""
    what = "Cityscapes label ids" if table == CITYSCAPES_TABLE else f"classes {_list(near)}"
    raise UserError(
        f"Dataset {title} has the {what}, of which the label set {label_set.name} names none"
        f"{hint}: expected at least one of {_list(ours)}; name the dataset's classes in "
        "config.data.label_set, or prepare it again with a --label_map that uses these names."
    )


def describe_unmatched(title: str, table: LabelTable, label_set: LabelSet) -> list[str]:
    """Lists classes that only one side has: a line for the dataset, one for the label set.

    Cityscapes label ids with a label set of the package that has only Cityscapes' classes give no
    lines. With any other label set, ids that the Cityscapes benchmark does not evaluate are not
    listed, because every dataset without its own table has them.

    Args:
      title: name of the dataset in messages.
      table: label table of the dataset.
      label_set: label set of the run.
    """
    of_package = label_set.name in list_label_sets()
    if table == CITYSCAPES_TABLE and of_package and set(label_set.names) <= set(table.class_names):
        return []
    lines = []
    ours = label_set.train_id_by_name
    ignored = [name for name in table.class_names if name not in ours]
    if table == CITYSCAPES_TABLE:
        evaluated = load_label_set("cityscapes_19").names
        ignored = [name for name in ignored if name in evaluated]
    if ignored:
        near = {name: find_near(name, ours) for name in ignored}
        shown = [f"{name} (nearly {near[name]!r})" if near[name] else name for name in ignored]
        lines.append(
            f"Ignoring classes of {title} that the label set {label_set.name} does not name: "
            f"{_list(shown)}."
        )
    found = {ours[name] for name in table.class_names if name in ours}
    absent = [name for train_id, name in enumerate(label_set.names) if train_id not in found]
    if absent:
        lines.append(
            f"Classes of the label set {label_set.name} that {title} never has: {_list(absent)}."
        )
    return lines


def _list(names: Collection[str]) -> str:
    return shorten(list(names), _LISTED)
