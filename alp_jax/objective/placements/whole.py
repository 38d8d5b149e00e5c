"""Places one patch that is the whole map: global alignment, as in AdvEnt and AdaptSegNet."""

import dataclasses

import jax

from alp_jax.objective import patches
from alp_jax.objective.types import Placement, Size


@dataclasses.dataclass(frozen=True)
class Whole(Placement):
    """Takes the whole map as the only patch."""

    @property
    def fixed_places(self) -> int:
        """One place."""
        return 1

    def take(self, logits: jax.Array, size: Size, key: jax.Array) -> jax.Array:
        """Upsamples the logits; `key` is not used."""
        del key
        return patches.upsample(logits, size)

    def get_patch_size(self, name: str, view: str, size: Size) -> Size:
        """Returns the size of the map."""
        del name, view
        return size


PLACEMENT = Whole
