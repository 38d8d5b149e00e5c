"""Compares arrays bit for bit, and the texts of programs."""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What two sets of named arrays differ in.

    Attributes:
      num_arrays: names on either side.
      missing: names that only the base has.
      extra: names that only the head has.
      differing: name -> how the arrays differ, in the order of the base.
    """

    num_arrays: int
    missing: list[str]
    extra: list[str]
    differing: dict[str, str]

    @property
    def is_same(self) -> bool:
        """Whether both sides have the same names and the same bits."""
        return not (self.missing or self.extra or self.differing)

    def describe(self) -> str:
        """Says in one line what differs, with the first of each kind."""
        parts = []
        if self.differing:
            name, how = next(iter(self.differing.items()))
            parts.append(
                f"{len(self.differing)} of {self.num_arrays} arrays differ, first {name}: {how}"
            )
        for names, side in ((self.missing, "base"), (self.extra, "head")):
            if names:
                parts.append(f"only in {side}: {_list_names(names)}")
        return "; ".join(parts) or f"same bits ({self.num_arrays} arrays)"


def compare_arrays(base: Arrays, head: Arrays) -> Comparison:
    """Compares arrays of the same names; NaN equals NaN, and -0.0 is not 0.0."""
    missing = [name for name in base if name not in head]
    extra = [name for name in head if name not in base]
    common = [name for name in base if name in head]
    differing = {
        name: describe_difference(base[name], head[name])
        for name in common
        if not same_bits(base[name], head[name])
    }
    return Comparison(len(common) + len(missing) + len(extra), missing, extra, differing)


def same_bits(base: np.ndarray, head: np.ndarray) -> bool:
    """Tells whether two arrays have the same type, shape and bits; any NaN equals any other."""
    if base.dtype != head.dtype or base.shape != head.shape:
        return False
    if base.tobytes() == head.tobytes():
        return True
    if base.dtype.kind != "f":
        return False
    bits = f"u{base.dtype.itemsize}"
    ours, theirs = np.ravel(base), np.ravel(head)
    same = ours.view(bits) == theirs.view(bits)
    return bool(np.all(same | (np.isnan(ours) & np.isnan(theirs))))


def describe_difference(base: np.ndarray, head: np.ndarray) -> str:
    """Says how two arrays differ: type, shape, or the largest difference."""
    if base.dtype.kind in "US" or head.dtype.kind in "US":
        return f"{base} and {head}"
    if base.dtype != head.dtype or base.shape != head.shape:
        return f"{base.dtype} of shape {base.shape} and {head.dtype} of shape {head.shape}"
    if base.dtype.kind not in "biuf":
        return "other bytes"
    ours, theirs = base.astype(np.float64), head.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(ours - theirs)
    count = int(np.sum((ours != theirs) & ~(np.isnan(ours) & np.isnan(theirs))))
    nans = int(np.sum(np.isnan(ours) != np.isnan(theirs)))
    finite = apart[np.isfinite(apart)]
    largest = float(finite.max()) if finite.size else float("nan")
    more = f", NaN on one side in {nans}" if nans else ""
    return f"largest difference {largest:.3g}, in {count} of {base.size} values{more}"


def canonical_program(text: str) -> str:
    """Renames functions by their order, and removes the name of the module and of results.

    Such names follow those in the Python code and do not reach the compiled arithmetic. Symbols
    that the text does not define, such as targets of custom calls, stay.
    """
    text = re.sub(r"^module @\S+", "module", text, flags=re.MULTILINE)
    text = re.sub(r' ?\{jax\.result_info = "[^"]*"\}', "", text)
    text = re.sub(r'jax\.result_info = "[^"]*"(, )?', "", text)
    defined = re.findall(r"func\.func (?:public |private )?@([\w.$-]+)\(", text)
    names = {name: f"function_{number}" for number, name in enumerate(defined)}
    return re.sub(r"@([\w.$-]+)", lambda match: "@" + names.get(match[1], match[1]), text)


def same_program(base: str, head: str) -> bool:
    """Tells whether two texts are the same program, up to the names of functions."""
    return canonical_program(base) == canonical_program(head)


def _list_names(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
