"""The cells of a grid, found by counting pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.objective.placements.grid import Grid
from tests import reference
from tests.refusals import refusal

LOGITS = np.random.default_rng(0).standard_normal((2, 4, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [(12, 15), (13, 17), (14, 16)])
def test_cells_are_of_equal_size_and_spread_over_the_map(size):
    grid = Grid(rows=3, columns=5)
    height, width = grid.get_patch_size("x", "target", size)
    assert (height, width) == (size[0] // 3, size[1] // 5)
    found = grid.take(jnp.asarray(LOGITS), size, jax.random.key(0))
    assert found.shape == (2 * 15, height, width, 3)
    whole = reference.upsample(LOGITS, size)
    cells = np.asarray(found).reshape(2, 3, 5, height, width, 3)
    for row in range(3):
        for column in range(5):
            # The first pixel at or after a fraction of the side, by counting.
            top = sum(1 for y in range(size[0]) if (y + 1) * 3 <= row * size[0])
            left = sum(1 for x in range(size[1]) if (x + 1) * 5 <= column * size[1])
            expected = whole[:, top : top + height, left : left + width]
            np.testing.assert_allclose(cells[:, row, column], expected, atol=1e-5)
    if size == (12, 15):  # Without a pixel left over.
        joined = cells.transpose(0, 1, 3, 2, 4, 5).reshape(whole.shape)
        np.testing.assert_allclose(joined, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": 13}, "x.rows is 13: expected at most 12, as the target map is 12x15."),
        ({"columns": 16}, "x.columns is 16: expected at most 15, as the target map is 12x15."),
    ],
)
def test_cells_that_are_not_there_are_refused(fields, message):
    grid = Grid(**fields)
    assert refusal(lambda: grid.get_patch_size("x", "target", (12, 15))) == message
