"""Places patches at random: g of Cicek et al., ACCV 2020."""

import dataclasses

import jax

from alp_jax.objective import patches
from alp_jax.objective.types import Placement
from alp_jax.objective.types import Size as MapSize
from alp_jax.settings.schema import Size, refuse, setting


@dataclasses.dataclass(frozen=True)
class RandomPatches(Placement):
    """Takes patches at random positions, uniform over all positions inside the map."""

    patch_size: Size = setting((256, 256), "(height, width) of a patch, pixels of the images.")
    num_patches: int = setting(1, "Number of patches of each map.", at_least=1)

    def take(self, logits: jax.Array, size: MapSize, key: jax.Array) -> jax.Array:
        """Upsamples only the pixels of random patches."""
        offsets = patches.sample_offsets(
            key, logits.shape[0], size, self.patch_size, self.num_patches
        )
        return patches.upsample_patches(logits, offsets, size, self.patch_size)

    def get_patch_size(self, name: str, view: str, size: MapSize) -> MapSize:
        """Returns `patch_size`; refuses patches larger than the map."""
        if self.patch_size[0] > size[0] or self.patch_size[1] > size[1]:
            inside = f"a patch inside the {view} map of {size[0]}x{size[1]}"
            refuse(f"{name}.patch_size", self.patch_size, inside)
        return self.patch_size


PLACEMENT = RandomPatches
