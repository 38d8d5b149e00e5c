"""Compares configurations field by field.

Synopsis:

  for name, ours, theirs in differences(config, saved):
      print(name, ours, as_flag(name, theirs))
  list_fields(settings, operational=True)     # ["num_steps", "evaluation.batch_size", ...]
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections

from alp_jax.settings import schema


def flatten(config: ml_collections.ConfigDict | dict[str, Any]) -> dict[str, Any]:
    """Flattens nested fields to {"data.batch_size": 1, ...}; tuples become lists, as in JSON."""

    def walk(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value

    nested = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
    return dict(walk(nested, ""))


def differences(
    config: ml_collections.ConfigDict | dict[str, Any],
    saved: ml_collections.ConfigDict | dict[str, Any],
) -> Iterator[tuple[str, Any, Any]]:
    """Yields (field, value, saved value) for fields that differ; None for a missing field.

    The kind of a block comes before its other fields, which depend on it.
    """
    ours, theirs = flatten(config), flatten(saved)
    names = ours.keys() | theirs.keys()
    for name in sorted(names, key=lambda name: re.sub(r"\.kind$", ".", name)):
        if ours.get(name) != theirs.get(name):
            yield name, ours.get(name), theirs.get(name)


def as_flag(name: str, value: Any) -> str:
    """Writes a field and its value as the flag that overrides it."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"--config.{name}={text}"


def as_flags(fields: Mapping[str, Any]) -> list[str]:
    """Writes fields and their values as the flags that override them."""
    return [as_flag(name, value) for name, value in fields.items()]


def list_fields(
    settings: Any,
    *,
    operational: bool | None = None,
    of_weights: bool | None = None,
    derived: bool | None = None,
) -> list[str]:
    """Lists the fields of a settings object, or those with the given marks.

    Names are as in `flatten`, with the kind of each block. Fields of a block that only another
    configuration has are not listed: to compare two configurations, list the fields of both.

    Args:
      settings: return value of `build`, or an object of the same class.
      operational: True lists only fields that may change when a run continues, False only the
        others; None lists both.
      of_weights: True lists only fields that weights depend on, False only the others; None lists
        both.
      derived: True lists only fields that a run fills from its data, False only the others; None
        lists both.
    """
    marks = _Marks(operational=False, of_weights=True, derived=False)
    return [
        name
        for name, found in _walk_marks(settings, "", marks)
        if operational in (None, found.operational)
        and of_weights in (None, found.of_weights)
        and derived in (None, found.derived)
    ]


class _Marks(NamedTuple):
    operational: bool
    of_weights: bool
    derived: bool

    def change(
        self, operational: bool | None, of_weights: bool | None, *, derived: bool = False
    ) -> "_Marks":
        """Returns marks in which each argument that is not None replaces the old value."""
        return _Marks(
            self.operational if operational is None else operational,
            self.of_weights if of_weights is None else of_weights,
            derived,
        )


def _walk_marks(settings: Any, prefix: str, outer: _Marks) -> Iterator[tuple[str, _Marks]]:
    cls = type(settings)
    outer = outer.change(getattr(cls, "OPERATIONAL", None), getattr(cls, "OF_WEIGHTS", None))
    for key, field in schema.get_fields(cls).items():
        declared, value, name = field.declared, getattr(settings, key), f"{prefix}{key}"
        marks = outer.change(declared.operational, declared.of_weights, derived=declared.derived)
        if field.item:
            yield name, marks
            continue
        parts = {f"{name}.{k}": v for k, v in value.items()} if declared.named else {name: value}
        for part_name, part in parts.items():
            if declared.package:
                yield f"{part_name}.kind", marks
            yield from _walk_marks(part, f"{part_name}.", marks)
