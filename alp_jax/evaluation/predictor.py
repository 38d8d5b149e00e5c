"""Computes predictions from images; evaluation, prediction, reports and export all use it.

Synopsis:

  predictor = Predictor((segmenter,), size=(512, 1024))
  variables = ((params, model_state),)
  logits = predictor.predict(variables, images, (1024, 2048))

A plain prediction is one forward pass, whose logits are upsampled. An averaged one is the weighted
mean of the probabilities of several passes: members of an ensemble, scales, mirrored images and
windows. The result is the logarithm of that mean, which argmax, softmax and entropy treat like
logits.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.errors import UserError
from alp_jax.models import Segmenter
from alp_jax.objective import patches
from alp_jax.objective.types import Size

PyTree = Any
# (params, model_state) of each member of an ensemble.
Variables = Sequence[tuple[PyTree, PyTree]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The forward passes of one network that are averaged.

    Attributes:
      flip: whether the mirrored image is predicted, too.
      scales: factors of the sides of the network's size; one pass per scale.
      window: (height, width) of windows that slide over each scaled image; None: the whole image.
      stride: (rows, columns) from one window to the next; None: half a window.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    window: Size | None = None
    stride: Size | None = None

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
          UserError: naming the flag.
        """
        if not self.scales or not all(0 < scale < 100 for scale in self.scales):
            raise UserError(
                f"--scales is {_join(self.scales)!r}: expected numbers above 0 and below 100."
            )
        if self.stride and not self.window:
            raise UserError("--stride is given without --window: expected both, or neither.")
        for name, size in (("window", self.window), ("stride", self.stride)):
            if size is not None and (len(size) != 2 or min(size) < 1):
                raise UserError(f"--{name} is {_join(size)!r}: expected HEIGHT,WIDTH in pixels.")
        if self.window and self.stride and any(map(int.__gt__, self.stride, self.window)):
            raise UserError(
                f"--stride is {_join(self.stride)}: expected at most the window, "
                f"{_join(self.window)}, or pixels between windows would have no prediction."
            )

    @property
    def is_plain(self) -> bool:
        """Whether there is only one pass, of the whole image at the network's size."""
        return self == Recipe()

    def describe(self) -> dict[str, Any]:
        """Returns the settings of the passes, for result files."""
        return {
            "flip": self.flip,
            "scales": list(self.scales),
            "window": self.window and list(self.window),
            "stride": self.window and list(self.stride or half(self.window)),
        }

    def suffix(self) -> str:
        """Returns the file-name suffix for this recipe; empty for a plain prediction."""
        parts = ["flip"] if self.flip else []
        if self.scales != (1.0,):
            parts.append("scales" + "-".join(f"{scale:g}" for scale in self.scales))
        if self.window:
            parts.append("window" + "x".join(map(str, self.window)))
            if self.stride:
                parts.append("stride" + "x".join(map(str, self.stride)))
        return "".join(f"_{part}" for part in parts)


class Pass(NamedTuple):
    """A forward pass of one member over one scaled image, whole or in windows.

    Attributes:
      member: index of the ensemble's member.
      size: (height, width) of the scaled image, pixels.
      is_flipped: whether the image is mirrored.
      window: (height, width) of a window; `size` without windows.
      corners: (top, left) of each window.
      weight: weight of the pass in the mean; all weights sum to 1.
    """

    member: int
    size: Size
    is_flipped: bool
    window: Size
    corners: tuple[tuple[int, int], ...]
    weight: float


class Grid(NamedTuple):
    """Interpolates the coarse logits of a window to the output pixels.

    Attributes:
      rows, columns: [H, h] and [W, w] interpolation matrices.
      has_row, has_column: [H] and [W], 1.0 where the window covers the pixel.
    """

    rows: Any
    columns: Any
    has_row: Any
    has_column: Any


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Computes predictions of one network or an ensemble, as pure functions of its variables.

    Attributes:
      segmenters: the network of each member.
      size: (height, width) of the networks' input images.
      recipe: passes of each member.
      weights: weights of the members in the mean; empty: equal weights.
    """

    segmenters: tuple[Segmenter, ...]
    size: Size
    recipe: Recipe = Recipe()
    weights: tuple[float, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether there is only one pass, whose logits are the prediction."""
        return len(self.segmenters) == 1 and self.recipe.is_plain

    @functools.cached_property
    def passes(self) -> tuple[Pass, ...]:
        """All passes, in the order of summation."""
        given = self.weights or (1.0,) * len(self.segmenters)
        recipe, flips = self.recipe, (False, True) if self.recipe.flip else (False,)
        share = sum(given) * len(recipe.scales) * len(flips)
        found = []
        for member, weight in enumerate(given):
            for scale in recipe.scales:
                height, width = (max(1, round(side * scale)) for side in self.size)
                size = (height, width)
                window = _fit(recipe.window or size, size)
                corners = find_corners(size, window, recipe.stride or half(window))
                for is_flipped in flips:
                    found.append(Pass(member, size, is_flipped, window, corners, weight / share))
        return tuple(found)

    def apply(self, variables: Variables, images: jax.Array) -> tuple[jax.Array, ...]:
        """Computes the coarse logits of every pass in evaluation mode.

        Args:
          variables: (params, model_state) of each member.
          images: [B, *size, 3] RGB, 0..255.
        Returns:
          logits [N, B, h, w, C] of each pass, with N windows; N = 1 for a plain prediction.
        """
        return tuple(self._apply_pass(variables[p.member], images, p) for p in self.passes)

    def _apply_pass(
        self, variables: tuple[PyTree, PyTree], images: jax.Array, which: Pass
    ) -> jax.Array:
        segmenter, (params, model_state) = self.segmenters[which.member], variables

        def forward(fed: jax.Array) -> jax.Array:
            outputs, _ = segmenter.apply(params, model_state, fed, train=False)
            return segmenter.predict(outputs)

        if which.size != self.size:
            shape = (images.shape[0], *which.size, 3)
            images = jax.image.resize(images.astype(jnp.float32), shape, "linear")
        if which.is_flipped:
            images = images[:, :, ::-1]
        if which.window == which.size:
            logits = forward(images)[None]
        else:
            corners = jnp.asarray(which.corners)
            logits = jax.lax.map(
                lambda corner: forward(_slice(images, corner, which.window)), corners
            )
        # `grids` mirrors the positions of the windows accordingly.
        return logits[:, :, :, ::-1] if which.is_flipped else logits

    def predict(self, variables: Variables, images: jax.Array, size: Size) -> jax.Array:
        """Computes logits [B, *size, C] of images [B, *self.size, 3]."""
        coarse = self.apply(variables, images)
        if self.is_plain:
            return patches.upsample(coarse[0][0], size)
        return self.combine(coarse, self.grids(coarse, size, self.size))

    def grids(
        self, coarse: Sequence[jax.Array | jax.ShapeDtypeStruct], size: Size, content: Size
    ) -> tuple[tuple[Grid, ...], ...]:
        """Creates a grid for every window of every pass.

        Args:
          coarse: return value of `apply`, or its shapes.
          size: (height, width) of the output, pixels.
          content: (height, width) of the top left part of an image of `self.size` that the output
            shows.
        """
        return tuple(
            tuple(self._create_grids(which, logits.shape, size, content))
            for which, logits in zip(self.passes, coarse, strict=True)
        )

    def _create_grids(
        self, which: Pass, shape: Sequence[int], size: Size, content: Size
    ) -> Iterator[Grid]:
        for top, left in which.corners:
            if which.is_flipped:
                left = which.size[1] - left - which.window[1]
            matrices = [
                _create_matrix(
                    shape[2 + axis],
                    size[axis],
                    content[axis] * which.size[axis] / self.size[axis],
                    start,
                    which.window[axis],
                    which.size[axis],
                )
                for axis, start in enumerate((top, left))
            ]
            (rows, has_row), (columns, has_column) = matrices
            yield Grid(rows, columns, has_row, has_column)

    def combine(self, coarse: Sequence[jax.Array], grids: Sequence[Sequence[Grid]]) -> jax.Array:
        """Interpolates coarse logits to output pixels, and averages the passes' probabilities.

        Args:
          coarse: return value of `apply`.
          grids: return value of `grids`, or the same output rows and columns of each grid.
        Returns:
          [B, H, W, C] logits of a plain prediction; else the log of the mean of probabilities.
        """
        if self.is_plain:
            return patches.interpolate(coarse[0][0], grids[0][0].rows, grids[0][0].columns)
        total: Any = 0.0
        for which, logits, grids_of_pass in zip(self.passes, coarse, grids, strict=True):
            covered: Any = 0.0
            probabilities: Any = 0.0
            for window, grid in enumerate(grids_of_pass):
                tile = patches.interpolate(logits[window], grid.rows, grid.columns)
                share = (grid.has_row[:, None] * grid.has_column[None, :])[..., None]
                probabilities += share * jax.nn.softmax(tile)
                covered += share
            # No window covers pixels beyond the image's last row and column: 0 / 1 there.
            total += which.weight * probabilities / jnp.maximum(covered, 1.0)
        return jnp.log(jnp.maximum(total, jnp.finfo(total.dtype).tiny))


def _slice(images: jax.Array, corner: jax.Array, window: Size) -> jax.Array:
    starts = (0, corner[0], corner[1], 0)
    sizes = (images.shape[0], *window, images.shape[3])
    return jax.lax.dynamic_slice(images, starts, sizes)


def half(window: Size) -> Size:
    """Halves both sides, to at least one pixel."""
    return max(1, window[0] // 2), max(1, window[1] // 2)


def _fit(window: Size, size: Size) -> Size:
    """Shrinks a window so that it fits in the image."""
    return min(window[0], size[0]), min(window[1], size[1])


def find_corners(size: Size, window: Size, stride: Size) -> tuple[tuple[int, int], ...]:
    """Places windows at the stride; the last one of each row and column ends at the border."""
    tops, lefts = (
        [min(start, side - length) for start in range(0, side - length + step, step)]
        for side, length, step in zip(size, window, stride, strict=True)
    )
    return tuple((top, left) for top in dict.fromkeys(tops) for left in dict.fromkeys(lefts))


def _create_matrix(
    coarse: int, size_out: int, content: float, start: int, length: int, whole: int
) -> tuple[np.ndarray, np.ndarray]:
    """Builds the interpolation matrix of one axis from a window's coarse logits, corners aligned.

    Args:
      coarse: number of samples of the window's logits.
      size_out: number of output samples.
      content: length of the part of the scaled image that the output shows, pixels.
      start: first pixel of the window.
      length: length of the window, pixels.
      whole: length of the scaled image, pixels.
    Returns:
      ([size_out, coarse] float32, [size_out] 1.0 where the window covers the sample).
    """
    if length == whole:
        last = (content - 1) * (coarse - 1) / max(whole - 1, 1)
        matrix = patches.interpolation_matrix(coarse, size_out, last).astype(np.float32)
        return matrix, np.ones(size_out, np.float32)
    places = np.linspace(0.0, max(content - 1, 0.0), size_out)
    covered = (places >= start - 0.5) & (places < start + length - 0.5)
    local = np.clip(places - start, 0, length - 1) * (coarse - 1) / max(length - 1, 1)
    lower = np.minimum(np.floor(local).astype(int), max(coarse - 2, 0))
    matrix = np.zeros((size_out, coarse), np.float32)
    rows = np.arange(size_out)
    matrix[rows, lower] = 1.0 - (local - lower)
    if coarse > 1:
        matrix[rows, lower + 1] += local - lower
    return matrix, covered.astype(np.float32)


def _join(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
