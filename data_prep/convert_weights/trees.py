"""Creates the segmenter's tree of shapes, and reorders the axes of its arrays, for a conversion.

Synopsis:

  shapes = create_shapes(model, num_classes, layout)     # {"params": ..., "model_state": ...}
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from alp_jax import models
from alp_jax.models.published import Layout
from alp_jax.models.segmenter import BACKBONE, name_decoder
from alp_jax.models.settings import ModelSettings

PyTree = Any


def list_parts(layout: Layout) -> list[str]:
    """Lists the parts of our tree of parameters that a file of the layout holds."""
    return [BACKBONE, *(name_decoder(head) for head in layout.heads)]


def create_shapes(model: ModelSettings, num_classes: int, layout: Layout) -> dict[str, PyTree]:
    """Creates the tree of shapes for the parts of a network that a layout holds.

    Args:
      model: settings of the network.
      num_classes: classes of the classifiers; any number for a layout without classifiers.
      layout: layout of the file.
    Returns:
      {"params": ..., "model_state": ...} as in a checkpoint.
    """
    segmenter = models.create_segmenter(model, num_classes)
    params, model_state = jax.eval_shape(segmenter.init, jax.random.key(0))
    return {
        "params": {part: params[part] for part in sorted(list_parts(layout))},
        "model_state": model_state,
    }


def _get_axes(path: tuple[Any, ...], num_axes: int) -> tuple[int, ...]:
    """Returns the axes of a published tensor in our order: kernels have outputs last, not first."""
    axes = tuple(range(num_axes))
    return (*axes[2:], 1, 0) if path[-1].key == "kernel" else axes


def published_shape(path: tuple[Any, ...], shape: Sequence[int], count: int = 1) -> tuple[int, ...]:
    """Returns the shape of each of `count` tensors in a file that make up our array at a path.

    Kernels are OIHW there and HWIO here.
    """
    first, *others = (shape[i] for i in np.argsort(_get_axes(path, len(shape))))
    return (first // count, *others)


def from_published(path: tuple[Any, ...], array: np.ndarray) -> np.ndarray:
    """Reorders the axes of a tensor to those of our array at a path; values do not change."""
    return array.transpose(_get_axes(path, array.ndim))


def to_published(path: tuple[Any, ...], array: np.ndarray) -> np.ndarray:
    """Reorders the axes of our array to those in a file; the inverse of `from_published`."""
    return array.transpose(np.argsort(_get_axes(path, array.ndim)))


def join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Joins tensors of a file along their outputs; a single one comes back as it is."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
