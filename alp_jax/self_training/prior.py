"""Counts how frequent each class is at each position of the source's labels.

Synopsis:

  prior = compute_prior(labels, num_classes=19, size=(1024, 2048))     # [1024, 2048, 19]

Zou et al., ECCV 2018, section 3.3 (CBST-SP). The published code reads the prior from a file whose
making it does not show; that the counts are smoothed is from the paper.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from PIL import Image

from alp_jax.data import pipeline


def compute_prior(
    labels: Iterable[np.ndarray], *, num_classes: int, size: tuple[int, int], blur: int = 0
) -> np.ndarray:
    """Computes q(class | position), the share of each class at a position.

    Args:
      labels: [h, w] uint8 classes or IGNORE_LABEL, one after another.
      num_classes: number of classes, K.
      size: (height, width) that labels are resized to, by nearest neighbour.
      blur: side of the Gaussian kernel that smooths the counts, odd; 0 smooths nothing.
    Returns:
      [*size, K] float32; the K values of a position sum to 1, and are alike where no label has a
      class.
    """
    counts = np.zeros((num_classes, *size), np.float32)  # Exact up to 2^24 images.
    for label in labels:
        resized = pipeline.resize(label, size, Image.Resampling.NEAREST)
        for found in np.unique(resized):
            if found < num_classes:
                counts[found] += resized == found
    if blur:
        counts = np.stack([cv2.GaussianBlur(part, (blur, blur), 0) for part in counts])
    total = counts.sum(axis=0)
    shares = np.where(total > 0, counts / np.maximum(total, 1e-12), 1 / num_classes)
    return np.ascontiguousarray(np.moveaxis(shares, 0, -1), np.float32)
