"""A trained segmenter for images of any size: arrays in, label maps and entropy out.

Synopsis:

  segmenter = load_segmenter("runs/alp")
  (prediction,) = segmenter.predict([image])       # [H, W, 3] uint8 RGB, any H and W
  prediction.label_ids                             # [H, W] uint8, label ids of the label set

The network works at one size, `config.data.target_size`, that of the target images in training and
in evaluation; its logits are brought to each image's own size, and decided there. So nothing is
padded that a convolution sees, and what is predicted for an image of the target is what evaluation
predicts for it. Two programs are compiled, whatever the sizes of images: the network, and the
interpolation of one tile of an image, of that same size. A tile that an image does not fill is cut
off afterwards: each output pixel comes from its own rows of two matrices, so that this is exact.

An image of other proportions than `target_size` is stretched to it, as it is in training and in
evaluation; or, with `proportions="keep"`, scaled to fit inside and mirrored to fill the rest. The
network then sees undistorted objects, but mirrored ones where the image ends.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax import models
from alp_jax.data import pipeline
from alp_jax.data.labels import LabelSet
from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator, figures
from alp_jax.models import MAIN, Segmenter
from alp_jax.objective import maps, patches
from alp_jax.workdir import classes, config
from alp_jax.workdir.settings import RunSettings

Proportions = Literal["stretch", "keep"]
PROPORTIONS: tuple[str, ...] = get_args(Proportions)

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a segmenter makes of one image.

    Attributes:
      image: [H, W, 3] uint8 RGB, as it was given.
      train_ids: [H, W] uint8, indices into `label_set.classes`.
      entropy: [H, W] float32 in [0, 1]; 1 is a uniform prediction.
      probabilities: [H, W, C] float32, or None where they were not asked for.
      label_set: the C classes.
    """

    image: np.ndarray
    train_ids: np.ndarray
    entropy: np.ndarray
    probabilities: np.ndarray | None
    label_set: LabelSet

    @property
    def label_ids(self) -> np.ndarray:
        """[H, W] uint8, label ids of the label set; with those of Cityscapes, its ids."""
        return self.label_set.to_label_ids[self.train_ids]

    def colour(self) -> np.ndarray:
        """Paints the classes: [H, W, 3] uint8 RGB."""
        return self.label_set.colourise(self.train_ids)

    def overlay(self, opacity: float = 0.5) -> np.ndarray:
        """Paints the classes over the image: [H, W, 3] uint8 RGB."""
        mixed = (1.0 - opacity) * self.image + opacity * self.colour()
        return mixed.round().astype(np.uint8)

    def entropy_colour(self) -> np.ndarray:
        """Paints the entropy, purple to yellow as it grows: [H, W, 3] uint8 RGB."""
        return figures.colour_entropy(self.entropy)


@dataclasses.dataclass(frozen=True)
class FittedImage:
    """An image at the network's size.

    Attributes:
      image: [H, W, 3] uint8 RGB, as it was given.
      pixels: [*size, 3] uint8 RGB.
      content: (height, width) of the part of `pixels` that shows the image, at its top left.
    """

    image: np.ndarray
    pixels: np.ndarray
    content: patches.Size


class TrainedSegmenter:
    """A segmenter with the weights of a checkpoint; it compiles at its first prediction."""

    def __init__(
        self,
        settings: RunSettings,
        segmenter: Segmenter,
        params: PyTree,
        model_state: PyTree,
        *,
        step: int,
        label_set: LabelSet,
        proportions: Proportions = "stretch",
        batch_size: int | None = None,
    ):
        """Keeps the weights.

        Args:
          settings: of the run.
          segmenter: the network.
          params, model_state: of it.
          step: that they are of.
          label_set: the classes.
          proportions: what becomes of those of an image, "stretch" or "keep" (see above).
          batch_size: images that the network takes at a time; None is that of evaluation.
        """
        self.config = settings
        self.label_set = label_set
        self.size: patches.Size = settings.data.target_size
        self.step = step
        self.batch_size = batch_size or settings.evaluation.batch_size
        self.proportions = proportions
        self.segmenter, self.params, self.model_state = segmenter, params, model_state
        self._apply = jax.jit(functools.partial(apply_network, segmenter=segmenter))
        self._decide = jax.jit(_decide, static_argnames="with_probabilities")

    def predict(
        self, images: Sequence[np.ndarray], *, with_probabilities: bool = False
    ) -> list[Prediction]:
        """Predicts images of any sizes.

        Args:
          images: each [H, W, 3] uint8 RGB.
          with_probabilities: whether predictions hold those of all classes.
        Raises:
          UserError: if an array is not such an image.
        """
        fitted = [self.fit(image) for image in images]
        starts = range(0, len(fitted), self.batch_size)
        batches = (fitted[start : start + self.batch_size] for start in starts)
        return [
            prediction
            for batch in batches
            for prediction in self.predict_batch(batch, with_probabilities=with_probabilities)
        ]

    def fit(self, image: np.ndarray) -> FittedImage:
        """Resizes an image to the network's size.

        Raises:
          UserError: if the array is not [H, W, 3] uint8.
        """
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or not image.size:
            raise UserError(
                f"An image is an array of {image.dtype} of shape {image.shape}: expected uint8 of "
                "shape (height, width, 3), RGB."
            )
        content = self.size
        if self.proportions == "keep":
            scale = min(self.size[0] / image.shape[0], self.size[1] / image.shape[1])
            height, width = (max(1, round(side * scale)) for side in image.shape[:2])
            content = (height, width)
        resampling = pipeline.RESAMPLING[self.config.data.image_resize]
        pixels = pipeline.resize(np.ascontiguousarray(image), content, resampling)
        missing = [(0, side - there) for side, there in zip(self.size, content, strict=True)]
        pixels = np.pad(pixels, [*missing, (0, 0)], mode="symmetric")
        return FittedImage(image, pixels, content)

    def stretches(self, fitted: FittedImage) -> bool:
        """Whether an image's proportions were changed by a tenth or more."""
        if self.proportions == "keep":
            return False
        ours, its = (size[1] / size[0] for size in (self.size, fitted.image.shape))
        return not 1 / 1.1 < ours / its < 1.1

    def predict_batch(
        self, batch: Sequence[FittedImage], *, with_probabilities: bool = False
    ) -> Iterator[Prediction]:
        """Predicts at most `batch_size` images, each when it is taken."""
        assert 0 < len(batch) <= self.batch_size
        pixels = np.stack([fitted.pixels for fitted in batch])
        pixels = np.pad(pixels, [(0, self.batch_size - len(batch)), (0, 0), (0, 0), (0, 0)])
        logits = self._apply(self.params, self.model_state, pixels)
        for index, fitted in enumerate(batch):
            yield self._finish(logits, index, fitted, with_probabilities)

    def _finish(
        self, logits: jax.Array, index: int, fitted: FittedImage, with_probabilities: bool
    ) -> Prediction:
        """Decides image `index` of a batch at its own size, tile by tile: logits [B, h, w, C]."""
        height, width = fitted.image.shape[:2]
        rows, columns = (
            patches.interpolation_matrix(
                coarse, side, (content - 1) * (coarse - 1) / max(whole - 1, 1)
            )
            for coarse, side, content, whole in zip(
                logits.shape[1:3], (height, width), fitted.content, self.size, strict=True
            )
        )
        num_classes = self.label_set.num_classes
        train_ids = np.empty((height, width), np.uint8)
        entropy = np.empty((height, width), np.float32)
        probabilities = None
        if with_probabilities:
            probabilities = np.empty((height, width, num_classes), np.float32)
        tiles = [
            (top, left)
            for top in range(0, height, self.size[0])
            for left in range(0, width, self.size[1])
        ]
        decided = [
            self._decide(
                logits,
                np.int32(index),
                _take(rows, top, self.size[0]),
                _take(columns, left, self.size[1]),
                with_probabilities=with_probabilities,
            )
            for top, left in tiles
        ]  # All are on their way before the first is waited for.
        for (top, left), outputs in zip(tiles, decided, strict=True):
            place = np.s_[top : top + self.size[0], left : left + self.size[1]]
            there = train_ids[place].shape
            for name, whole in (
                ("train_ids", train_ids),
                ("entropy", entropy),
                ("probabilities", probabilities),
            ):
                if whole is not None:
                    whole[place] = np.asarray(outputs[name])[: there[0], : there[1]]
        return Prediction(fitted.image, train_ids, entropy, probabilities, self.label_set)


def load_segmenter(
    workdir: str | os.PathLike[str],
    checkpoint: str = "latest",
    *,
    proportions: Proportions = "stretch",
    batch_size: int | None = None,
) -> TrainedSegmenter:
    """Loads the segmenter of a run.

    Args:
      workdir: of a run, or of converted weights.
      checkpoint: "latest", "best" (chosen with target labels) or the number of a step.
      proportions: what becomes of those of an image: "stretch", as in training and evaluation, or
        "keep", which mirrors the image to fill the rest.
      batch_size: images that the network takes at a time; None is that of evaluation.
    Raises:
      UserError: if there is no such run or checkpoint, or an argument is wrong.
    """
    if proportions not in PROPORTIONS:
        raise UserError(
            f"proportions is {proportions!r}: expected one of {', '.join(PROPORTIONS)}."
        )
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size is {batch_size}: expected at least 1.")
    folder = pathlib.Path(workdir).expanduser()
    settings = config.load(folder)
    label_set = classes.load(folder, settings.data.label_set)
    segmenter = models.create_segmenter(settings.model, label_set.num_classes)
    params, model_state, step = evaluator.restore_segmenter(folder, segmenter, checkpoint)
    return TrainedSegmenter(
        settings,
        segmenter,
        params,
        model_state,
        step=step,
        label_set=label_set,
        proportions=proportions,
        batch_size=batch_size,
    )


def apply_network(
    params: PyTree, model_state: PyTree, images: jax.Array, *, segmenter: Segmenter
) -> jax.Array:
    """Computes the main head's logits [B, h, w, C] in evaluation mode."""
    outputs, _ = segmenter.apply(params, model_state, images, train=False)
    return outputs.logits[MAIN]


def _decide(
    logits: jax.Array,
    index: jax.Array,
    rows: jax.Array,
    columns: jax.Array,
    *,
    with_probabilities: bool,
) -> dict[str, jax.Array]:
    """Decides a tile of image `index`.

    Args:
      logits: [B, h, w, C].
      index: int32 scalar in [0, B).
      rows, columns: [H, h] and [W, w], the tile's own rows of the interpolation matrices.
      with_probabilities: whether to give those, too.
    """
    tile = patches.interpolate(logits[index][None], rows, columns)[0]
    outputs = {
        "train_ids": jnp.argmax(tile, axis=-1).astype(jnp.uint8),
        "entropy": maps.entropy(tile),
    }
    if with_probabilities:
        outputs["probabilities"] = jax.nn.softmax(tile)
    return outputs


def _take(matrix: np.ndarray, start: int, count: int) -> np.ndarray:
    """Takes rows; those that the matrix has not are zeros."""
    taken = matrix[start : start + count]
    return np.pad(taken, [(0, count - len(taken)), (0, 0)])
