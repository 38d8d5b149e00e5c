"""Confusion matrix and the scores that come from it.

Synopsis:

  counts = compute_confusion(predictions, labels, num_classes)     # on the device, one batch
  confusion += np.asarray(counts, np.int64)                         # on the host, the split
  summary = summarise(confusion, label_set)                         # IoU per class, mean IoU, ...
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.data.labels import LabelSet

MEAN_IOU = "mean_iou"


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


def name_means(keys: Iterable[str]) -> dict[str, str]:
    """Selects the means among the keys of a summary, and names them for people.

    Returns:
      {"mean_iou": "mean IoU", "mean_iou_13": "mean IoU-13", ...}, in the order of the keys.
    """
    found = [key for key in keys if key == MEAN_IOU or key.startswith(f"{MEAN_IOU}_")]
    suffixes = {key: key.removeprefix(MEAN_IOU).replace("_", "-", 1) for key in found}
    return {key: f"mean IoU{suffix.replace('_', ' ')}" for key, suffix in suffixes.items()}


def summarise(confusion: np.ndarray, label_set: LabelSet) -> dict[str, Any]:
    """Computes every score of one confusion matrix, ready for JSON (an undefined one is None).

    A report of the label set, such as mean_iou_13, averages the IoUs of its classes in this same
    matrix: the other classes stay in it as errors, the protocol of the literature.

    Args:
      confusion: [C, C] counts, rows = truth.
      label_set: the C classes.
    Returns:
      mean_iou, the label set's reports, pixel_accuracy and iou_per_class (by class name), all in
      [0, 1], and num_pixels.
    """
    ious = iou_per_class(confusion)
    num_pixels = int(confusion.sum())
    summary: dict[str, Any] = {MEAN_IOU: _json_number(mean_iou(ious))}
    for key, names in label_set.reports.items():
        summary[key] = _json_number(mean_iou(ious[label_set.indices(names)]))
    accuracy = np.trace(confusion) / num_pixels if num_pixels else float("nan")
    summary["pixel_accuracy"] = _json_number(accuracy)
    summary["iou_per_class"] = {
        name: _json_number(iou) for name, iou in zip(label_set.names, ious, strict=True)
    }
    summary["num_pixels"] = num_pixels
    return summary
