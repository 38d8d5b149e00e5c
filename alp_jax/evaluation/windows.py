"""Predicts a large image at full resolution: windows of the network's size slide over it.

Synopsis:

  windows = Windows(predictor, variables, batch_size=4)
  train_ids, entropy, probabilities = windows.predict(image)

Windows lie half a window apart; the last of each row and column ends at the border. Where windows
overlap, the prediction is the mean of their probabilities with equal weights. The image is decided
cell by cell, half a window high and wide, from the coarse logits of the windows that cover it. Only
the windows of a few rows are kept, so memory does not grow with the image's height.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.evaluation.predictor import Grid, Predictor, Variables, find_corners, half
from alp_jax.objective import maps
from alp_jax.objective.types import Size

# Coarse logits [N, h, w, C] of one window, for each pass of the predictor.
Coarse = tuple[np.ndarray, ...]


class Windows:
    """Predicts images that are larger than the network's input; compiles at the first one.

    Attributes:
      apply: the network for a batch (`Predictor.apply`), compiled.
    """

    def __init__(self, predictor: Predictor, variables: Variables, batch_size: int):
        """Creates the two programs: the network for a batch of windows, the decision of a cell."""
        self._predictor = predictor
        self._variables = variables
        self._batch_size = batch_size
        self._cell = half(predictor.size)
        self._num_slots = math.prod(map(count_slots, predictor.size))
        self.apply = jax.jit(predictor.apply)
        self._decide = jax.jit(
            functools.partial(_decide_cell, predictor=predictor),
            static_argnames="with_probabilities",
        )

    def predict(
        self, image: np.ndarray, *, with_probabilities: bool = False
    ) -> dict[str, np.ndarray]:
        """Predicts one image.

        Args:
          image: [H, W, 3] uint8 RGB; a side that is shorter than the network's is mirrored.
          with_probabilities: whether to return probabilities, too.
        Returns:
          train_ids [H, W] uint8, entropy [H, W] and, if asked for, probabilities [H, W, C] float32.
        """
        size, cell = self._predictor.size, self._cell
        height, width = image.shape[:2]
        missing = [
            (0, max(0, side - there)) for side, there in zip(size, (height, width), strict=True)
        ]
        if any(after for _, after in missing):
            image = np.pad(image, [*missing, (0, 0)], mode="symmetric")
        shape = (image.shape[0], image.shape[1])
        corners = find_corners(shape, size, half(size))
        tops, lefts = (sorted({corner[axis] for corner in corners}) for axis in (0, 1))
        stream = self._stream(image, corners)
        held: dict[int, list[Coarse]] = {}
        result: dict[str, np.ndarray] = {}
        for top in range(0, height, cell[0]):
            rows = [start for start in tops if top - size[0] < start < top + cell[0]]
            held = {start: held.get(start) or [next(stream) for _ in lefts] for start in rows}
            decided = []
            for left in range(0, width, cell[1]):
                columns = [
                    (start, index)
                    for index, start in enumerate(lefts)
                    if left - size[1] < start < left + cell[1]
                ]
                windows = [
                    ((top - row, left - column), held[row][index])
                    for row in rows
                    for column, index in columns
                ]
                decided.append((left, self._decide_one(windows, with_probabilities)))
            for left, outputs in decided:
                for name, values in outputs.items():
                    whole = result.get(name)
                    if whole is None:
                        whole = np.empty((height, width, *values.shape[2:]), values.dtype)
                        result[name] = whole
                    place = whole[top : top + cell[0], left : left + cell[1]]
                    place[:] = np.asarray(values)[: place.shape[0], : place.shape[1]]
        return result

    def _stream(self, image: np.ndarray, corners: Sequence[tuple[int, int]]) -> Iterator[Coarse]:
        """Yields the coarse logits of the windows, in order; the next batch is computed ahead."""
        size = self._predictor.size
        begun: Sequence[jax.Array] = ()
        count = 0
        for start in range(0, len(corners), self._batch_size):
            batch = np.zeros((self._batch_size, *size, 3), np.uint8)
            there = corners[start : start + self._batch_size]
            for index, (top, left) in enumerate(there):
                batch[index] = image[top : top + size[0], left : left + size[1]]
            coarse = self.apply(self._variables, batch)
            yield from _split(begun, count)
            begun, count = coarse, len(there)
        yield from _split(begun, count)

    def _decide_one(
        self, windows: Sequence[tuple[tuple[int, int], Coarse]], with_probabilities: bool
    ) -> dict[str, jax.Array]:
        """Decides a cell from its windows: (where the cell begins in the window, coarse logits)."""
        first = windows[0][1]
        grids = self._grids(tuple(logits.shape for logits in first))
        covers = [self._cover(start) for start, _ in windows]
        taken = [take_grids(grids, start, self._cell) for start, _ in windows]
        logits = [coarse for _, coarse in windows]
        unused = self._num_slots - len(windows)
        covers += [jax.tree.map(np.zeros_like, covers[0])] * unused
        taken += [taken[0]] * unused
        logits += [first] * unused

        def stack(trees: Sequence[Any]) -> Any:
            return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)

        return self._decide(
            stack(logits), stack(taken), stack(covers), with_probabilities=with_probabilities
        )

    @functools.lru_cache(maxsize=1)  # noqa: B019  As long as the segmenter itself.
    def _grids(self, shapes: tuple[tuple[int, ...], ...]) -> Any:
        """Creates the grids of one whole window."""
        size = self._predictor.size
        coarse = [jax.ShapeDtypeStruct((s[0], 1, *s[1:]), np.float32) for s in shapes]
        return self._predictor.grids(coarse, size, size)

    def _cover(self, start: tuple[int, int]) -> tuple[np.ndarray, ...]:
        """Returns 1.0 for the rows and for the columns of a cell that are inside a window."""
        places = [first + np.arange(n) for first, n in zip(start, self._cell, strict=True)]
        return tuple(
            ((place >= 0) & (place < side)).astype(np.float32)
            for place, side in zip(places, self._predictor.size, strict=True)
        )


def count_slots(side: int) -> int:
    """Returns how many windows may overlap a cell on one axis; one of them ends at the border."""
    return (side - 1) // max(1, side // 2) + 2


def _decide_cell(
    coarse: Coarse,
    grids: Any,
    covers: tuple[jax.Array, jax.Array],
    *,
    predictor: Predictor,
    with_probabilities: bool,
) -> dict[str, jax.Array]:
    """Averages the probabilities of the windows of a cell.

    Args:
      coarse: logits [K, N, h, w, C] of each pass.
      grids: as of `Predictor.grids`, with a first axis of K.
      covers: [K, H] and [K, W], 1.0 where a window covers a row and a column.
      predictor: combines the passes of a window.
      with_probabilities: whether to return probabilities, too.
    """
    num_classes = coarse[0].shape[-1]

    def add(sums: tuple[jax.Array, jax.Array], window: Any) -> tuple[Any, None]:
        total, count = sums
        logits, its_grids, (rows, columns) = window
        tile = predictor.combine([one[:, None] for one in logits], its_grids)[0]
        share = (rows[:, None] * columns[None, :])[..., None]
        return (total + share * jax.nn.softmax(tile), count + share), None

    shape = (covers[0].shape[1], covers[1].shape[1])
    start = (jnp.zeros((*shape, num_classes)), jnp.zeros((*shape, 1)))
    (total, count), _ = jax.lax.scan(add, start, (coarse, grids, covers))
    # No window covers pixels beyond the image: 0 / 1 there.
    probabilities = total / jnp.maximum(count, 1.0)
    logits = jnp.log(jnp.maximum(probabilities, jnp.finfo(total.dtype).tiny))
    outputs = {
        "train_ids": jnp.argmax(probabilities, axis=-1).astype(jnp.uint8),
        "entropy": maps.entropy(logits),
    }
    if with_probabilities:
        outputs["probabilities"] = probabilities
    return outputs


def _split(coarse: Sequence[jax.Array], count: int) -> Iterator[Coarse]:
    """Yields the logits of the first images of a batch, one after the other."""
    there = [np.asarray(logits) for logits in coarse]
    for index in range(count):
        yield tuple(logits[:, index] for logits in there)


def take_grids(grids: Any, start: tuple[int, int], size: Size) -> Any:
    """Takes the rows and columns of a tile from all grids; those outside of a grid are zeros.

    Args:
      grids: return value of `Predictor.grids`.
      start: first row and column; may be negative.
      size: number of rows and columns.
    """

    def take(array: np.ndarray, axis: int) -> np.ndarray:
        places = start[axis] + np.arange(size[axis])
        there = (places >= 0) & (places < len(array))
        taken = np.zeros((size[axis], *array.shape[1:]), array.dtype)
        taken[there] = array[places[there]]
        return taken

    return tuple(
        tuple(
            Grid(take(g.rows, 0), take(g.columns, 1), take(g.has_row, 0), take(g.has_column, 1))
            for g in of_pass
        )
        for of_pass in grids
    )
