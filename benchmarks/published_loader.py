"""Loads pairs of frames like published code: AdvEnt's datasets in a PyTorch DataLoader.

Restated from AdvEnt's `base_dataset.py`, `gta5.py` and `cityscapes.py`: Pillow decodes and resizes,
a loop over the classes maps label ids, channels are reversed to BGR, the mean is subtracted, and
images are float32 [3, H, W]. AdvEnt's loader of target images also reads their labels; this one
does not.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils import data

from alp_jax.data.labels import load_label_set

MEAN = np.array((104.00698793, 116.66876762, 122.67891434), np.float32)
_CLASSES = load_label_set("cityscapes_19").classes
TRAIN_IDS = {c.label_id: train_id for train_id, c in enumerate(_CLASSES)}


class PublishedPairs(data.Dataset):
    """Pairs of a source image with its label and a target image, by index.

    Args:
      source, target: raw folders of GTA5 and Cityscapes.
      source_size, target_size: (height, width), pixels.
    """

    def __init__(
        self,
        source: pathlib.Path,
        target: pathlib.Path,
        source_size: tuple[int, int],
        target_size: tuple[int, int],
    ):
        self._source = sorted((source / "images").glob("*.png"))
        self._target = sorted((target / "leftImg8bit" / "train").glob("*/*.png"))
        self._source_size, self._target_size = source_size[::-1], target_size[::-1]

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns (source image, its label [H, W] float32 train ids, target image)."""
        source = self._source[index]
        image = _load(source, self._source_size, Image.Resampling.BICUBIC, rgb=True)
        path = source.parents[1] / "labels" / source.name
        label = _load(path, self._source_size, Image.Resampling.NEAREST, rgb=False)
        mapped = 255 * np.ones(label.shape, dtype=np.float32)
        for label_id, train_id in TRAIN_IDS.items():
            mapped[label == label_id] = train_id
        target = _load(self._target[index], self._target_size, Image.Resampling.BICUBIC, rgb=True)
        return _preprocess(image).copy(), mapped.copy(), _preprocess(target).copy()


def _load(
    path: pathlib.Path, size: tuple[int, int], resampling: Image.Resampling, *, rgb: bool
) -> np.ndarray:
    image: Image.Image = Image.open(path)
    if rgb:
        image = image.convert("RGB")
    return np.asarray(image.resize(size, resampling), np.float32)


def _preprocess(image: np.ndarray) -> np.ndarray:
    return (image[:, :, ::-1] - MEAN).transpose(2, 0, 1)


def iterate(pairs: PublishedPairs, num_workers: int) -> Iterator[Any]:
    """Yields batches of one pair without end, reshuffled every epoch, like published code."""
    torch.manual_seed(0)
    loader = data.DataLoader(pairs, batch_size=1, shuffle=True, num_workers=num_workers)
    while True:
        yield from loader
