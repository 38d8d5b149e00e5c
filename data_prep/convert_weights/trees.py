"""Our side of a conversion: the segmenter's tree of arrays, and its kernels' order.

Synopsis:

  shapes = create_shapes(config.model, 19, layout)     # {"params": ..., "model_state": ...}
"""

from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from alp_jax import models
from data_prep.convert_weights.layouts import Layout

PyTree = Any


def create_shapes(
    model: ml_collections.ConfigDict, num_classes: int, layout: Layout
) -> dict[str, PyTree]:
    """Creates the tree of shapes of what a layout holds of a network.

    Args:
      model: `config.model`.
      num_classes: of the classifiers; any where the layout has none.
      layout: what the file holds.
    Returns:
      {"params": ..., "model_state": ...} as in a checkpoint.
    """
    segmenter = models.create_segmenter(model, num_classes)
    params, model_state = jax.eval_shape(segmenter.init, jax.random.key(0))
    held = {part: tree for part, tree in params.items() if part in ("backbone", *layout.heads)}
    return {"params": held, "model_state": model_state}


def published_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape that one of our arrays has in a file: kernels are OIHW there, HWIO here."""
    return tuple(shape[i] for i in (3, 2, 0, 1)) if len(shape) == 4 else tuple(shape)


def from_published(array: np.ndarray) -> np.ndarray:
    """Reorders a kernel to HWIO; the bits stay."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def to_published(array: np.ndarray) -> np.ndarray:
    """Undoes `from_published`."""
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
