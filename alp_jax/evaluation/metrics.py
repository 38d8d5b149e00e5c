"""Confusion matrix and the scores that come from it.

Synopsis:

  counts = compute_confusion(predictions, labels, num_classes)     # on the device, one batch
  confusion += np.asarray(counts, np.int64)                         # on the host, the split
  summary = summarise(confusion, label_set)                         # IoU per class, mean IoU, ...
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.data.labels import LABEL_SETS, LabelSet

# Name in a summary -> what people call it.
MEANS = {"mean_iou": "mean IoU", "mean_iou_16": "mean IoU-16", "mean_iou_13": "mean IoU-13"}


def compute_confusion(predictions: jax.Array, labels: jax.Array, num_classes: int) -> jax.Array:
    """Counts (label, prediction) pairs over the pixels whose label is in [0, num_classes).

    Args:
      predictions: [...] integer in [0, num_classes).
      labels: [...] integer; anything outside [0, num_classes) is not counted.
      num_classes: C.
    Returns:
      [C, C] int32, rows = truth. Exact up to 2^31 pixels: add batches up in int64 on the host.
    """
    labels, predictions = labels.astype(jnp.int32), predictions.astype(jnp.int32)
    valid = (labels >= 0) & (labels < num_classes)
    # A pixel that does not count goes to one extra bin, so nothing indexes with its label.
    bins = jnp.where(valid, labels * num_classes + predictions, num_classes**2).ravel()
    counts = jnp.zeros(num_classes**2 + 1, jnp.int32).at[bins].add(1)
    return counts[:-1].reshape(num_classes, num_classes)


def iou_per_class(confusion: np.ndarray) -> np.ndarray:
    """Computes TP / (TP + FN + FP) of each class: [C, C] -> [C] in [0, 1].

    A class that neither occurs nor is predicted has no IoU: NaN.
    """
    true_positive = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion)
    return np.divide(true_positive, union, out=np.full(len(union), np.nan), where=union > 0)


def mean_iou(ious: np.ndarray) -> float:
    """Averages the IoUs that are defined; NaN when none is."""
    defined = ious[~np.isnan(ious)]
    return float(defined.mean()) if defined.size else float("nan")


def _json_number(value: float) -> float | None:
    """JSON has no NaN: an undefined score is null."""
    return None if np.isnan(value) else float(value)


def summarise(confusion: np.ndarray, label_set: LabelSet) -> dict[str, Any]:
    """Computes every score of one confusion matrix, ready for JSON (an undefined one is None).

    mean_iou_16 and mean_iou_13 average the IoUs of those classes of this same matrix (wall, fence
    and pole stay in it as errors), the protocol of the literature; they are present where the
    label set has the classes.

    Args:
      confusion: [C, C] counts, rows = truth.
      label_set: the C classes.
    Returns:
      mean_iou, mean_iou_16, mean_iou_13, pixel_accuracy and iou_per_class (by class name), all in
      [0, 1], and num_pixels.
    """
    ious = iou_per_class(confusion)
    num_pixels = int(confusion.sum())
    summary: dict[str, Any] = {"mean_iou": _json_number(mean_iou(ious))}
    for size in (16, 13):
        indices = label_set.subset_indices(LABEL_SETS[size].names)
        if indices is not None:
            summary[f"mean_iou_{size}"] = _json_number(mean_iou(ious[indices]))
    accuracy = np.trace(confusion) / num_pixels if num_pixels else float("nan")
    summary["pixel_accuracy"] = _json_number(accuracy)
    summary["iou_per_class"] = {
        name: _json_number(iou) for name, iou in zip(label_set.names, ious, strict=True)
    }
    summary["num_pixels"] = num_pixels
    return summary
