"""Our side of a conversion: the segmenter's tree of arrays, and its kernels' order.

Synopsis:

  shapes = create_shapes(model, 19, layout)     # {"params": ..., "model_state": ...}
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
    """Creates the tree of shapes of the parts of a network that a layout holds.

    Args:
      model: settings of the network.
      num_classes: of the classifiers; any where the layout has none.
      layout: of the file.
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


def published_shape(path: tuple[Any, ...], shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the shape that our array at a path has in a file: kernels are OIHW, here HWIO."""
    return tuple(shape[i] for i in np.argsort(_get_axes(path, len(shape))))


def from_published(path: tuple[Any, ...], array: np.ndarray) -> np.ndarray:
    """Reorders a tensor to our array at a path; the bits stay."""
    return array.transpose(_get_axes(path, array.ndim))


def to_published(path: tuple[Any, ...], array: np.ndarray) -> np.ndarray:
    """Undoes `from_published`."""
    return array.transpose(np.argsort(_get_axes(path, array.ndim)))
