"""Defines the types of samples and batches, from the data to a train step."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Sample(NamedTuple):
    """Images of one domain or view, with their labels if there are any.

    Attributes:
      images: [B, H, W, 3] RGB, 0..255.
      labels: [B, H, W] train ids or IGNORE_LABEL; None without labels.
      weights: [B, H, W] weight of each pixel in a loss; None weighs every pixel 1.
      soft_labels: [B, H, W, K] probability of each class, all 0 where a pixel has no label; None
        without soft labels.
      from_target: [B] bool, whether an image is of the target domain, in a sample that mixes both
        domains; None in a sample of one domain.
    """

    images: Any
    labels: Any = None
    weights: Any = None
    soft_labels: Any = None
    from_target: Any = None


# Domain -> its images: {"source": Sample, "target": Sample}.
Batch = dict[str, Sample]


class Notes(NamedTuple):
    """Notes on the images of one domain in a batch; no step reads them.

    Attributes:
      ids: [B] int32 numbers of the records.
      skipped: [B] int32 number of the corrupt record that was replaced, or -1.
      labelled: [B] int32 number of pixels with a class; None without labels.
      from_target: [B] bool, as in Sample.
    """

    ids: Any
    skipped: Any
    labelled: Any = None
    from_target: Any = None


def split_mixed(notes: Mapping[str, Notes]) -> dict[str, Notes]:
    """Splits the notes of a domain that mixes source and target, as both have own records.

    Args:
      notes: domain -> notes of its batch.
    Returns:
      notes of "source" and "target" only; `labelled` is left out.
    """
    found: dict[str, list[Notes]] = {}
    for domain, noted in notes.items():
        if noted.from_target is None:
            found.setdefault(domain, []).append(noted)
            continue
        for name, is_of_it in (("source", ~noted.from_target), ("target", noted.from_target)):
            if is_of_it.any():
                part = Notes(noted.ids[is_of_it], noted.skipped[is_of_it])
                found.setdefault(name, []).append(part)
    return {
        domain: Notes(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.skipped for part in parts]),
        )
        for domain, parts in found.items()
    }


class Loaded(NamedTuple):
    """A loaded batch with its notes.

    Attributes:
      batch: domain -> images, the input of a step.
      notes: domain -> notes on these images.
    """

    batch: Batch
    notes: dict[str, Notes]
