"""Checks that a prepared dataset suits its purpose: its features, and that it is labelled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from alp_jax.data import prepared, statistics
from alp_jax.data.labels import LabelSet, LabelTable
from alp_jax.errors import UserError, shorten


class Fields(NamedTuple):
    """Fields of the configuration that name a dataset and its split."""

    dataset: str = ""
    split: str = ""


NO_FIELDS = Fields()


def check_features(
    builder: tfds.core.DatasetBuilder,
    title: str,
    fields: Fields,
    *,
    target: bool,
    labels: bool,
    images: bool,
) -> None:
    """Refuses a dataset without the features to read, or a target with labels.

    Args:
      builder: TFDS builder of the dataset.
      title: NAME:SPLIT.
      fields: fields of the configuration that name it.
      target: whether the dataset must hold no labels.
      labels, images: whether they are read.
    """
    features = set(builder.info.features)
    if target and "label" in features:
        raise UserError(
            f"Dataset {title} holds labels, and a target domain must be read without them: "
            "name a dataset whose records have only images (the built-in one is "
            "toy_cities/target_unlabelled)."
        )
    expected = {"name"} | ({"image"} if images else set()) | ({"label"} if labels else set())
    missing = sorted(expected - features)
    if not missing:
        return
    named = f" ({fields.dataset})" if fields.dataset else ""
    there = ", ".join(sorted(features))
    if missing == ["label"]:
        raise UserError(
            f"Dataset {title}{named} has no labels, only the features {there}: name a dataset with "
            "labels, or prepare this one with them (python -m data_prep.image_folder --labels=...)."
        )
    raise UserError(
        f"Dataset {title}{named} has the features {there}: expected "
        f"{', '.join(sorted(expected))}; name another dataset."
    )


def check_labels(
    builder: tfds.core.DatasetBuilder,
    title: str,
    parts: Sequence[prepared.Part],
    table: LabelTable,
    label_set: LabelSet,
    *,
    is_trained: bool,
) -> tuple[str, str]:
    """Looks for pixels of classes in labels, as far as preparation has counted them.

    Args:
      builder: TFDS builder of the dataset.
      title: NAME:SPLIT.
      parts: the records.
      table: label table of the dataset.
      label_set: label set of the run.
      is_trained: whether the labels are trained on.
    Returns:
      (remark, doubt), each a sentence or "": that no pixel is of a class; that more than half of
      the labelled pixels are ignored.
    Raises:
      UserError: if the labels are trained on, and no pixel is of a class, or most are ignored and
        the others are of one class, so that nothing could be told apart.
    """
    pixels = statistics.find_pixels(builder, parts)
    if pixels is None:
        return "", ""
    totals = pixels.sum(axis=0)
    held = statistics.describe_unlabelled(totals, table, label_set)
    if held and is_trained:
        raise UserError(
            f"No pixel in the labels of {title} is of a class of the label set {label_set.name}: "
            f"{held}; prepare it with a --label_map that says what its values mean, or name its "
            "classes in config.data.label_set."
        )
    if held:
        return f"The labels of {title} give no scores, as no pixel is of a class: {held}.", ""
    return "", _describe_lost(totals, title, table, label_set, is_trained=is_trained)


def _describe_lost(
    totals: np.ndarray, title: str, table: LabelTable, label_set: LabelSet, *, is_trained: bool
) -> str:
    """Describes labels that lose most of their pixels, because the label set lacks their classes.

    Args:
      totals: [256] pixels of each label value.
      title, table, label_set, is_trained: as for `check_labels`.
    """
    kept = statistics.count_classes(totals, table, label_set)
    of_classes = sum(int(totals[value]) for value in table.names)
    lost = of_classes - int(kept.sum())
    if lost <= of_classes / 2:
        return ""
    there = [name for name, count in zip(label_set.names, kept, strict=True) if count]
    what = (
        f"{100 * lost / of_classes:.1f} % of the pixels that {title} labels are ignored, as the "
        f"label set {label_set.name} has only {shorten(there)} of its classes"
    )
    if is_trained and len(there) == 1:
        raise UserError(f"{what}: name more of them in config.data.label_set, or merge them there.")
    return f"{what}: name the others in config.data.label_set if they are to be told apart."
