"""Predicts images of any size with a trained segmenter: arrays in, label maps and entropy out.

Synopsis:

  segmenter = load_segmenter("runs/alp")
  (prediction,) = segmenter.predict([image])       # [H, W, 3] uint8 RGB, any H and W
  prediction.label_ids                             # [H, W] uint8, label ids of the label set

The network's input has one size, `config.data.target_size`, the size of target images in training
and evaluation. Its logits are interpolated to each image's own size, and classes are decided there.
So no convolution sees padding, and an image of the target gets the same prediction as in
evaluation. Two programs are compiled, whatever the sizes of the images: the network, and the
interpolation of one tile of an image, a tile being as large as the network's input. A tile that
extends beyond the image is cropped afterwards. This is exact, since each output pixel depends only
on its own rows of two matrices.

An image with other proportions than `target_size` is stretched, as in training and evaluation. With
`proportions="keep"` it is scaled to fit inside and mirrored to fill the rest: objects are
undistorted, but the network also sees mirrored ones beyond the image's border.

With `proportions="windows"` no image is resized: windows of the network's size slide over a larger
one (alp_jax/evaluation/windows.py), and a smaller one is mirrored to fill the network's input. It
compiles another program for images that are larger than the network's input.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.data import pipeline
from alp_jax.errors import UserError
from alp_jax.evaluation.ensemble import Ensemble, load_ensemble
from alp_jax.evaluation.logits import check_finite
from alp_jax.evaluation.prediction import Prediction
from alp_jax.evaluation.predictor import Grid, Predictor, Recipe
from alp_jax.evaluation.windows import Windows, take_grids
from alp_jax.objective import maps, patches

Proportions = Literal["stretch", "keep", "windows"]
PROPORTIONS: tuple[str, ...] = get_args(Proportions)


@dataclasses.dataclass(frozen=True)
class FittedImage:
    """An image resized to the network's size, or one that windows slide over.

    Attributes:
      image: [H, W, 3] uint8 RGB, the given image.
      pixels: [*size, 3] uint8 RGB, the network's input; None: windows slide over the image.
      content: (height, width) of the top left part of `pixels` that shows the image.
    """

    image: np.ndarray
    pixels: np.ndarray | None
    content: patches.Size


class TrainedSegmenter:
    """Predicts with the weights of checkpoints; compiles at the first prediction."""

    def __init__(
        self,
        ensemble: Ensemble,
        *,
        proportions: Proportions = "stretch",
        batch_size: int | None = None,
    ):
        """Creates the segmenter; compiles nothing yet.

        Args:
          ensemble: networks with their weights; usually one.
          proportions: how an image with other proportions is fitted to the network's size,
            "stretch", "keep" or "windows" (see above).
          batch_size: images in a batch of the network; None: `config.evaluation.batch_size`.
        """
        self.ensemble = ensemble
        self.settings = ensemble.settings
        self.label_set = ensemble.label_set
        self.batch_size = batch_size or self.settings.evaluation.batch_size
        self.proportions = proportions
        predictor = ensemble.predictor
        self._windows = Windows(predictor, ensemble.variables, self.batch_size)
        self._apply = self._windows.apply
        self._decide = jax.jit(
            functools.partial(_decide, predictor=predictor), static_argnames="with_probabilities"
        )

    @property
    def size(self) -> patches.Size:
        """(height, width) of the network's input, pixels."""
        return self.ensemble.predictor.size

    @property
    def step(self) -> int:
        """Step of the first member's checkpoint."""
        return self.ensemble.members[0].step

    def predict(
        self, images: Sequence[np.ndarray], *, with_probabilities: bool = False
    ) -> list[Prediction]:
        """Predicts images of any sizes.

        Args:
          images: arrays [H, W, 3] uint8 RGB.
          with_probabilities: whether predictions hold the probabilities of all classes.
        Raises:
          UserError: if an array is not such an image.
        """
        fitted = (self.fit(image) for image in images)
        return list(self.predict_fitted(fitted, with_probabilities=with_probabilities))

    def predict_fitted(
        self, images: Iterable[FittedImage], *, with_probabilities: bool = False
    ) -> Iterator[Prediction]:
        """Predicts images in order, `batch_size` at a time; takes the next ones when asked to."""
        batch: list[FittedImage] = []
        for fitted in images:
            if fitted.pixels is not None:
                batch.append(fitted)
            if batch and (fitted.pixels is None or len(batch) == self.batch_size):
                yield from self._predict_batch(batch, with_probabilities)
                batch = []
            if fitted.pixels is None:
                found = self._windows.predict(fitted.image, with_probabilities=with_probabilities)
                yield self._check(
                    Prediction(
                        fitted.image,
                        found["train_ids"],
                        found["entropy"],
                        found.get("probabilities"),
                        self.label_set,
                    )
                )
        if batch:
            yield from self._predict_batch(batch, with_probabilities)

    def fit(self, image: np.ndarray) -> FittedImage:
        """Fits an image to the network's size: stretched, or scaled and mirrored, or in windows.

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
        if self.proportions == "windows":
            content = (image.shape[0], image.shape[1])
            if any(map(int.__gt__, content, self.size)):
                return FittedImage(image, None, content)
        elif self.proportions == "keep":
            scale = min(self.size[0] / image.shape[0], self.size[1] / image.shape[1])
            height, width = (max(1, round(side * scale)) for side in image.shape[:2])
            content = (height, width)
        resampling = pipeline.RESAMPLING[self.settings.data.image_resize]
        pixels = pipeline.resize(np.ascontiguousarray(image), content, resampling)
        missing = [(0, side - there) for side, there in zip(self.size, content, strict=True)]
        pixels = np.pad(pixels, [*missing, (0, 0)], mode="symmetric")
        return FittedImage(image, pixels, content)

    def stretches(self, fitted: FittedImage) -> bool:
        """Returns whether fitting changed an image's proportions by a tenth or more."""
        if self.proportions != "stretch":
            return False
        ours, its = (size[1] / size[0] for size in (self.size, fitted.image.shape))
        return not 1 / 1.1 < ours / its < 1.1

    def _predict_batch(
        self, batch: Sequence[FittedImage], with_probabilities: bool
    ) -> Iterator[Prediction]:
        """Predicts at most `batch_size` images; yields each when the caller asks for it."""
        pixels = np.stack([fitted.pixels for fitted in batch if fitted.pixels is not None])
        pixels = np.pad(pixels, [(0, self.batch_size - len(batch)), (0, 0), (0, 0), (0, 0)])
        coarse = self._apply(self.ensemble.variables, pixels)
        for index, fitted in enumerate(batch):
            yield self._finish(coarse, index, fitted, with_probabilities)

    def _finish(
        self,
        coarse: Sequence[jax.Array],
        index: int,
        fitted: FittedImage,
        with_probabilities: bool,
    ) -> Prediction:
        """Predicts image `index` of a batch at its own size, tile by tile."""
        height, width = fitted.image.shape[:2]
        grids = self.ensemble.predictor.grids(coarse, (height, width), fitted.content)
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
                coarse,
                np.int32(index),
                take_grids(grids, (top, left), self.size),
                with_probabilities=with_probabilities,
            )
            for top, left in tiles
        ]  # All tiles are dispatched before the first result is awaited.
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
        return self._check(
            Prediction(fitted.image, train_ids, entropy, probabilities, self.label_set)
        )

    def _check(self, prediction: Prediction) -> Prediction:
        """Returns a prediction from finite logits; others are refused."""
        height, width = prediction.entropy.shape
        name = f"an image of {height} x {width}"
        check_finite([name], [prediction.entropy], step=self.step)
        return prediction


def load_segmenter(
    workdir: str | os.PathLike[str],
    checkpoint: str = "latest",
    *,
    proportions: Proportions = "stretch",
    batch_size: int | None = None,
    recipe: Recipe | None = None,
    others: Sequence[str] = (),
    weights: Sequence[float] = (),
) -> TrainedSegmenter:
    """Loads the segmenter of a run, or an ensemble of several.

    Args:
      workdir: folder of a run, or of converted weights.
      checkpoint: "latest", "best" (chosen with target labels) or the number of a step.
      proportions: how an image with other proportions is fitted to the network's size: "stretch",
        as in training and evaluation; "keep", which scales it to fit and mirrors it to fill the
        rest; or "windows", which slide over it at full resolution.
      batch_size: images in a batch of the network; None: `config.evaluation.batch_size`.
      recipe: passes that are averaged (flip, scales, windows); None: a single pass.
      others: workdirs of further members of an ensemble, or WORKDIR:CHECKPOINT.
      weights: weights of all members in the mean of probabilities, `workdir` first; empty: equal
        weights.
    Raises:
      UserError: if there is no such run or checkpoint, or an argument is wrong.
    """
    if proportions not in PROPORTIONS:
        raise UserError(
            f"proportions is {proportions!r}: expected one of {', '.join(PROPORTIONS)}."
        )
    if batch_size is not None and batch_size < 1:
        raise UserError(f"batch_size is {batch_size}: expected at least 1.")
    ensemble = load_ensemble(
        workdir, checkpoint, recipe=recipe or Recipe(), others=others, weights=weights
    )
    return TrainedSegmenter(ensemble, proportions=proportions, batch_size=batch_size)


def _decide(
    coarse: Sequence[jax.Array],
    index: jax.Array,
    grids: Sequence[Sequence[Grid]],
    *,
    predictor: Predictor,
    with_probabilities: bool,
) -> dict[str, jax.Array]:
    """Predicts one tile of image `index`.

    Args:
      coarse: logits [N, B, h, w, C] of each pass.
      index: int32 scalar in [0, B).
      grids: the tile's rows and columns of the grids.
      predictor: averages the passes.
      with_probabilities: whether to return probabilities, too.
    """
    tile = predictor.combine([logits[:, index][:, None] for logits in coarse], grids)[0]
    outputs = {
        "train_ids": jnp.argmax(tile, axis=-1).astype(jnp.uint8),
        "entropy": maps.entropy(tile),
    }
    if with_probabilities:
        outputs["probabilities"] = jax.nn.softmax(tile)
    return outputs
