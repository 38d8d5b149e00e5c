"""Collects facts about the records of a dataset while they are written, and stores them with it."""

import dataclasses
import pathlib
from collections.abc import Mapping

import cv2
import numpy as np

from alp_jax.data import digests, statistics

_EXACT_IN_FLOAT32 = 1 << 24


def count_values(label: np.ndarray) -> np.ndarray:
    """Counts the pixels of each value of an [H, W] uint8 label: [256] int64.

    OpenCV is four times as fast as NumPy, and returns float32.
    """
    if label.size < _EXACT_IN_FLOAT32:
        counted = cv2.calcHist([np.ascontiguousarray(label)], [0], None, [256], [0, 256])
        return counted.ravel().astype(np.int64)
    return np.bincount(label.ravel(), minlength=256)


@dataclasses.dataclass
class _Split:
    digests: list[bytes] = dataclasses.field(default_factory=list)
    pixels: list[np.ndarray] = dataclasses.field(default_factory=list)
    names: list[str] = dataclasses.field(default_factory=list)


class Tally:
    """Digests of all records, and pixels of the label values of those with labels."""

    def __init__(self) -> None:
        self._splits: dict[str, _Split] = {}

    def add(self, split: str, digest: str, pixels: np.ndarray | None, name: str = "") -> None:
        """Adds the next record.

        Args:
            split: its split.
            digest: of its content (`alp_jax.data.digests.digest`).
            pixels: [256] pixels of each label value; None without label.
            name: name of the record.
        """
        collected = self._splits.setdefault(split, _Split())
        collected.digests.append(digest.encode())
        if pixels is not None:
            collected.pixels.append(pixels)
            collected.names.append(name)

    @property
    def pixels(self) -> Mapping[str, np.ndarray]:
        """Pixels of each label value in each record: split -> [N, 256]; only labelled splits."""
        return {
            split: np.stack(collected.pixels)
            for split, collected in self._splits.items()
            if collected.pixels
        }

    @property
    def names(self) -> Mapping[str, list[str]]:
        """Names of the records in `pixels`, in the same order."""
        return {split: found.names for split, found in self._splits.items() if found.pixels}

    def save(self, folder: pathlib.Path) -> None:
        """Writes class frequencies and digests into the folder of the dataset."""
        if self.pixels:
            statistics.write(folder, self.pixels)
        joined = {split: digests.digest(found.digests) for split, found in self._splits.items()}
        digests.write(folder, digests.sample_files(folder, joined))
