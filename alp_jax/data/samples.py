"""Defines the types of samples and batches, from the data to a train step."""

from typing import Any, NamedTuple


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
    """

    ids: Any
    skipped: Any
    labelled: Any = None


class Loaded(NamedTuple):
    """A loaded batch with its notes.

    Attributes:
      batch: domain -> images, the input of a step.
      notes: domain -> notes on these images.
    """

    batch: Batch
    notes: dict[str, Notes]
