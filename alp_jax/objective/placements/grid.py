"""Places patches on a fixed grid: the form of ROAD (3x3) and of PatchGAN."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.objective import patches
from alp_jax.objective.types import Placement, Size
from alp_jax.settings.schema import refuse, setting


@dataclasses.dataclass(frozen=True)
class Grid(Placement):
    """Takes the cells of a grid of `rows` x `columns` as patches, in the order of reading.

    A map of H x W pixels has cells of floor(H / rows) x floor(W / columns); the cell in row i and
    column j begins at (floor(i H / rows), floor(j W / columns)). Where the sides do not divide,
    the pixels left over lie between cells, or after the last.
    """

    rows: int = setting(3, "Rows of the grid; 3 in ROAD.", at_least=1)
    columns: int = setting(3, "Columns of the grid; 3 in ROAD.", at_least=1)

    @property
    def fixed_places(self) -> int:
        """Number of cells."""
        return self.rows * self.columns

    def take(self, logits: jax.Array, size: Size, key: jax.Array) -> jax.Array:
        """Upsamples the pixels of the cells; `key` is not used."""
        del key
        offsets = jnp.asarray(self._place(size), jnp.int32)
        offsets = jnp.broadcast_to(offsets, (logits.shape[0], *offsets.shape))
        height, width = size[0] // self.rows, size[1] // self.columns
        return patches.upsample_patches(logits, offsets, size, (height, width))

    def get_patch_size(self, name: str, view: str, size: Size) -> Size:
        """Returns the size of a cell; refuses cells without a pixel."""
        for field, side in (("rows", size[0]), ("columns", size[1])):
            if getattr(self, field) > side:
                inside = f"at most {side}, as the {view} map is {size[0]}x{size[1]}"
                refuse(f"{name}.{field}", getattr(self, field), inside)
        return size[0] // self.rows, size[1] // self.columns

    def _place(self, size: Size) -> np.ndarray:
        """Computes the top-left corners of the cells: [P, 2]."""
        row, column = np.indices((self.rows, self.columns)).reshape(2, -1)
        return np.stack([row * size[0] // self.rows, column * size[1] // self.columns], axis=1)


PLACEMENT = Grid
