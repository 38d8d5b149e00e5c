"""Types of what flows from the data to a step."""

from typing import Any, NamedTuple


class Sample(NamedTuple):
    """Images of one domain or view, with labels where there are some.

    Attributes:
      images: [B, H, W, 3] RGB, 0..255.
      labels: [B, H, W] train ids or IGNORE_LABEL; None without labels.
      weights: [B, H, W] weight of each pixel in a loss; None weighs every pixel 1.
    """

    images: Any
    labels: Any = None
    weights: Any = None


# Domain -> its images: {"source": Sample, "target": Sample}.
Batch = dict[str, Sample]


class Notes(NamedTuple):
    """Facts about the images of one domain in a batch that no step reads.

    Attributes:
      ids: [B] int32 numbers of the records.
      skipped: [B] int32 number of the corrupt record that was replaced, or -1.
    """

    ids: Any
    skipped: Any


class Loaded(NamedTuple):
    """A batch as it is read.

    Attributes:
      batch: by domain, what a step gets.
      notes: by domain, what is noted about it.
    """

    batch: Batch
    notes: dict[str, Notes]
