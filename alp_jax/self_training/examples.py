"""Reads the training examples of a round: a part of the source, and the pseudo-labelled target.

Synopsis:

  examples = RoundExamples(plan, source, target, seed=0)
  examples[0]      # {"image", "label", "from_target", "id", "skipped"}

Zou et al., ICCV 2019; code: yzou2/CRST, crst_seg.py (`savelst_SrcTgt` and the ConcatDataset).
"""

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from alp_jax.data import pipeline
from alp_jax.data.image_files import ImageError
from alp_jax.data.opening import open_image
from alp_jax.data.settings import DataSettings
from alp_jax.data.sources import SegmentationSource
from alp_jax.errors import UserError, describe
from alp_jax.self_training.crops import Cropping
from alp_jax.self_training.settings import RoundsSettings

Example = dict[str, Any]

# Roles that are folded into the seed of a run.
_SUBSET, _ORDER, _CROPS = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class RoundPlan:
    """What a round is trained on.

    Attributes:
      number: of the round, from 0.
      rounds, data: `config.rounds` and `config.data`.
      labels: folder of the pseudo-labels.
      mined: classes whose pixels target crops are laid around.
      fill: red, green and blue of padding, 0 to 255.
    """

    number: int
    rounds: RoundsSettings
    data: DataSettings
    labels: pathlib.Path
    mined: tuple[int, ...]
    fill: tuple[int, int, int]


def label_path(folder: pathlib.Path, index: int) -> pathlib.Path:
    """Returns the file of the pseudo-label of a target image."""
    return folder / f"{index:06d}.png"


def read_label(folder: pathlib.Path, index: int, size: tuple[int, int]) -> np.ndarray:
    """Reads a pseudo-label: [*size] uint8 classes or IGNORE_LABEL.

    Raises:
      UserError: if the file is missing, damaged or of another size.
    """
    path = label_path(folder, index)
    try:
        image = open_image(path.read_bytes())
        fault = "" if (image.mode, image.size) == ("L", size[::-1]) else f"it is {image.size}"
    except (OSError, ImageError) as error:
        fault = describe(error)
    if fault:
        raise UserError(
            f"The pseudo-label {path} cannot be used ({fault}): expected {size[0]}x{size[1]} "
            "classes; start the run again, which makes the labels of the round anew."
        )
    return np.asarray(image)


def draw_subset(num_images: int, portion: float, seed: int, number: int) -> np.ndarray:
    """Draws the source images of a round: floor(portion * num_images) of them, each once.

    Every round draws anew, independent of the others, as CRST's sampling policy `r` does.
    """
    rng = np.random.default_rng([seed, _SUBSET, number])
    return rng.choice(num_images, int(np.floor(num_images * portion)), replace=False)


@functools.lru_cache(2)
def _shuffle(length: int, seed: int, number: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, _ORDER, number, epoch]).permutation(length)


class RoundExamples:
    """The examples of all steps of a round, by their place among those of all rounds.

    Each epoch is a new order of the source subset and all target images. An example is a function
    of (seed, place) alone. No label of a target dataset is read: `target` must be without.
    """

    def __init__(
        self, plan: RoundPlan, source: SegmentationSource, target: SegmentationSource, *, seed: int
    ):
        """Draws the source subset.

        Args:
          plan: what the round is trained on.
          source, target: training splits.
          seed: seed of the run.
        Raises:
          UserError: if the target is read with labels.
        """
        if target.label_set is not None:
            raise UserError(
                f"{target.title} is read with labels: expected a target without, which gets "
                "pseudo-labels."
            )
        self._plan, self._source, self._target, self._seed = plan, source, target, seed
        portion = plan.rounds.find_source_portion(plan.number)
        self.subset = draw_subset(len(source), portion, seed, plan.number)
        self._cropping = Cropping(plan.rounds, plan.fill)

    def __len__(self) -> int:
        return self._plan.rounds.num_steps * self._plan.data.batch_size

    @property
    def first(self) -> int:
        """Place of the round's first example."""
        rounds = self._plan.rounds
        return self._plan.number * rounds.steps_per_round * self._plan.data.batch_size

    def __getitem__(self, place: int) -> Example:
        """Reads an example: image [h, w, 3] and label [h, w] of `crop_size`, both uint8.

        Raises:
          IndexError: if the place is before the round.
          UserError: if an image or a pseudo-label cannot be read.
        """
        at = place - self.first
        if at < 0:
            raise IndexError(f"Place {place} is before round {self._plan.number}.")
        length = len(self.subset) + len(self._target)
        order = _shuffle(length, self._seed, self._plan.number, at // length)
        chosen = int(order[at % length])
        mined: tuple[int, ...] = ()
        if chosen < len(self.subset):
            example = self._read_source(int(self.subset[chosen]))
        else:
            example, mined = self._read_target(chosen - len(self.subset)), self._plan.mined
        rng = np.random.default_rng([self._seed, _CROPS, self._plan.number, at])
        image, label = self._cropping.apply(example["image"], example["label"], rng, mined=mined)
        return example | {"image": image, "label": label}

    def _read_source(self, index: int) -> Example:
        example = self._source[index]
        size = self._plan.data.source_size
        label = pipeline.resize(example["label"], size, Image.Resampling.NEAREST)
        return self._resize(example, size) | {"label": label, "from_target": np.bool_(False)}

    def _read_target(self, index: int) -> Example:
        size = self._plan.data.target_size
        label = read_label(self._plan.labels, index, size)
        example = self._resize(self._target[index], size)
        return example | {"label": label, "from_target": np.bool_(True)}

    def _resize(self, example: Example, size: tuple[int, int]) -> Example:
        resampling = pipeline.RESAMPLING[self._plan.data.image_resize]
        image = pipeline.resize(example["image"], size, resampling)
        return {"image": image, "id": example["id"], "skipped": example["skipped"]}


class BlankExamples:
    """Examples of the shape of a round's, all zeros: to compile a step before there are labels."""

    def __init__(self, rounds: RoundsSettings, batch_size: int):
        self._size, self._length = rounds.crop_size, rounds.num_steps * batch_size

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, place: int) -> Example:
        """Returns a blank example."""
        del place
        return {
            "image": np.zeros((*self._size, 3), np.uint8),
            "label": np.zeros(self._size, np.uint8),
            "id": np.int32(0),
            "skipped": np.int32(-1),
            "from_target": np.bool_(False),
        }


class TargetBatches:
    """The images of the target in order, in batches."""

    def __init__(self, target: SegmentationSource, config: DataSettings, batch_size: int):
        """Creates the batches.

        Args:
          target: training split.
          config: `config.data`.
          batch_size: number of images in a batch; the last is padded with zeros.
        """
        self._target, self._config, self._batch_size = target, config, batch_size

    def __len__(self) -> int:
        return -(-len(self._target) // self._batch_size)

    def __getitem__(self, number: int) -> tuple[list[int], np.ndarray]:
        """Returns (indices of the images, images [batch_size, H, W, 3] uint8 of target_size)."""
        first = number * self._batch_size
        indices = list(range(first, min(first + self._batch_size, len(self._target))))
        size, resampling = self._config.target_size, self._config.image_resize
        images = np.zeros((self._batch_size, *size, 3), np.uint8)
        for place, index in enumerate(indices):
            image = self._target[index]["image"]
            images[place] = pipeline.resize(image, size, pipeline.RESAMPLING[resampling])
        return indices, images
