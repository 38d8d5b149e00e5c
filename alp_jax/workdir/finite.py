"""Finds the numbers that no sound network has: NaN, infinities and variances below 0.

Synopsis:

  faults = find_faults({"params": params, "model_state": model_state})
  # ["params/backbone/conv1/kernel: 1 NaN of 735 values, the first at [0, 3, 2, 1]"]

The values are looked at on the host, so nothing is compiled.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
_VARIANCE = "/var"  # End of a running variance's path.


def name_path(path: tuple[Any, ...]) -> str:
    """Names an array by its path in a tree: "segmenter/params/backbone/conv1/kernel"."""
    return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def find_faults(tree: PyTree) -> list[str]:
    """Describes every array of a tree that no sound network has, by its path."""
    faults = []
    for name, array in _list_arrays(tree):
        fault = describe_fault(array, is_variance=name.endswith(_VARIANCE))
        if fault is not None:
            faults.append(f"{name}: {fault}")
    return faults


def describe_fault(array: np.ndarray, *, is_variance: bool) -> str | None:
    """Describes the values of an array that no sound network has; returns None without such.

    Args:
      array: of a floating type.
      is_variance: whether it holds variances, which must not be below 0.
    """
    if np.isfinite(array).all() and not (is_variance and (array < 0).any()):
        return None
    kinds = {"NaN": np.isnan(array), "infinite": np.isinf(array)}
    if is_variance:
        kinds["negative (of a variance)"] = np.isfinite(array) & (array < 0)
    counts = {kind: int(np.count_nonzero(bad)) for kind, bad in kinds.items()}
    said = " and ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
    first = np.argwhere(np.logical_or.reduce(list(kinds.values())))[0].tolist()
    where = f", the first at {first}" if first else ""
    return f"{said} of {array.size:,} value{'s' if array.size > 1 else ''}{where}"


def find_largest(tree: PyTree) -> tuple[str, float]:
    """Finds the array with the number of the largest magnitude; returns (path, magnitude)."""
    largest = ((name, float(np.abs(array).max())) for name, array in _list_arrays(tree))
    return max(largest, key=lambda found: found[1])


def _list_arrays(tree: PyTree) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (path, values) of every array of a floating type that has values."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.size:
            yield name_path(path), np.asarray(leaf)
