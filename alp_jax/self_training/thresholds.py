"""Finds the confidence that a portion of the pixels reaches, from histograms of constant size.

Synopsis:

  histogram = ConfidenceHistogram(num_classes=19, stride=4)
  histogram.add(confidence, prediction)                   # for each image
  thresholds = histogram.find_thresholds(0.2, "class")    # [19] float32

Zou et al., ECCV 2018, Algorithm 2: the threshold of class k is the confidence at rank
floor(portion * N_k) of the N_k sampled pixels that are predicted as k, the largest first. Published
code (yzou2/CRST, `kc_parameters`) holds and sorts all of them, tens of gigabytes for Cityscapes.

A bin holds confidences p that agree in the first 12 bits after the leading one, of p itself below
0.5 and of 1 - p from there on; a threshold is the least float32 of its bin. So it lies below the
published one by less than 2^-12 min(p, 1 - p), never above, and is equal for p > 1 - 2^-11: there,
where most thresholds are, every bin is a single float32.
"""

import math

import numpy as np

_MANTISSA_BITS, _KEPT_BITS = 23, 12
_DROPPED_BITS = _MANTISSA_BITS - _KEPT_BITS
_LEAST = 2.0**-40  # Only a spatial prior makes confidences smaller than 1 / classes.
_SPACING = 2.0**-24  # Of float32 between 0.5 and 1, so 1 - p is 0 or at least that.


def _to_key(values: np.ndarray) -> np.ndarray:
    """Returns the leading bits of positive float32 numbers, which sort as the numbers do."""
    return values.view(np.int32) >> _DROPPED_BITS


def _key_of(value: float) -> int:
    return int(_to_key(np.array(value, np.float32).reshape(1))[0])


_FIRST_LOW, _FIRST_HIGH = _key_of(_LEAST), _key_of(_SPACING)
_NUM_LOW = _key_of(0.5) - _FIRST_LOW
_NUM_HIGH = _key_of(0.5) - _FIRST_HIGH + 2  # One more for 0.5 itself, and one for p = 1.
NUM_BINS = _NUM_LOW + _NUM_HIGH


def find_bins(confidence: np.ndarray) -> np.ndarray:
    """Returns the bin of each confidence; bins are sorted like the confidences.

    Args:
      confidence: float32 in (0, 1]; rounding above 1 counts as 1, less than 2^-40 as that.
    """
    held = np.clip(confidence, np.float32(_LEAST), np.float32(1))
    distance = np.float32(1) - held  # Exact from 0.5 on.
    low = _to_key(held) - _FIRST_LOW
    high = np.where(distance > 0, _to_key(distance) - _FIRST_HIGH + 1, 0)
    return np.where(held < 0.5, low, NUM_BINS - 1 - high)


def find_least(index: int) -> np.float32:
    """Returns the least confidence of a bin."""
    if index < _NUM_LOW:
        bits = np.array([(index + _FIRST_LOW) << _DROPPED_BITS], np.int32)
        return bits.view(np.float32)[0]
    high = NUM_BINS - 1 - index
    if high == 0:
        return np.float32(1)
    bits = np.array([((high + _FIRST_HIGH) << _DROPPED_BITS) - 1], np.int32)
    largest = min(float(bits.view(np.float32)[0]), 0.5)
    return np.float32(1 - math.floor(largest / _SPACING) * _SPACING)


class ConfidenceHistogram:
    """Counts confidences by predicted class, in constant memory.

    Attributes:
      pixels: [K] int64 pixels that are predicted as each class; all of them, not only every
        `stride`-th.
    """

    def __init__(self, num_classes: int, *, stride: int):
        """Creates an empty histogram.

        Args:
          num_classes: number of classes, K.
          stride: of the pixels of a class in an image, in the order of rows, the first and then
            every `stride`-th counts.
        """
        self._stride = stride
        self._counts = np.zeros((num_classes, NUM_BINS), np.int64)
        self.pixels = np.zeros(num_classes, np.int64)

    def add(self, confidence: np.ndarray, prediction: np.ndarray) -> None:
        """Adds an image.

        Args:
          confidence: [H, W] float32 in (0, 1], probability of the predicted class.
          prediction: [H, W] predicted class.
        """
        for found in np.unique(prediction):
            held = confidence[prediction == found]
            self.pixels[found] += held.size
            bins, counts = np.unique(find_bins(held[:: self._stride]), return_counts=True)
            self._counts[found, bins] += counts

    def find_thresholds(self, portion: float, balance: str) -> np.ndarray:
        """Finds the thresholds that a portion of the sampled pixels reaches.

        Args:
          portion: share of the pixels, in (0, 1].
          balance: "class" for a threshold of each class, "global" for the same in all.
        Returns:
          [K] float32; 1 where the portion is less than one pixel.
        """
        if balance == "global":
            found = _find_threshold(self._counts.sum(axis=0), portion)
            return np.full(len(self._counts), found, np.float32)
        return np.array([_find_threshold(counts, portion) for counts in self._counts], np.float32)

    def find_rare(self, share: float) -> tuple[int, ...]:
        """Lists the classes with less than a share of the predicted pixels."""
        return tuple(np.flatnonzero(self.pixels / self.pixels.sum() < share).tolist())


def _find_threshold(counts: np.ndarray, portion: float) -> np.float32:
    rank = math.floor(int(counts.sum()) * portion)
    if rank == 0:
        return np.float32(1)
    from_top = np.cumsum(counts[::-1])
    return find_least(NUM_BINS - 1 - int(np.searchsorted(from_top, rank)))
