"""Feeds the segmenter random crops of a domain's images: the inputs of AP-CI."""

import dataclasses
from typing import ClassVar, Literal

import jax

from alp_jax.data.samples import Batch, Sample
from alp_jax.objective import patches
from alp_jax.objective.types import Size as MapSize
from alp_jax.objective.types import Surroundings, View
from alp_jax.settings.schema import Size, refuse, setting


@dataclasses.dataclass(frozen=True)
class Crops(View):
    """Feeds random crops of one domain's images, with labels and weights cropped alike.

    Cicek et al., ACCV 2020, section 4.3: AP-CI aligns predictions of cropped images.
    """

    domain: Literal["source", "target"] = setting("source", "Domain whose images are cropped.")
    size: Size = setting((256, 256), "(height, width) of a crop, pixels.")
    num_crops: int = setting(1, "Number of crops of each image.", at_least=1)
    is_random: ClassVar[bool] = True

    @property
    def domains(self) -> tuple[str, ...]:
        """The domain whose images are cropped."""
        return (self.domain,)

    def make(self, batch: Batch, key: jax.Array) -> Sample:
        """Crops at random positions, uniform over all positions inside the image."""
        sample = batch[self.domain]
        batch_size, height, width = sample.images.shape[:3]
        offsets = patches.sample_offsets(
            key, batch_size, (height, width), self.size, self.num_crops
        )
        return jax.tree.map(lambda array: patches.slice_patches(array, offsets, self.size), sample)

    def describe(self, name: str, surroundings: Surroundings) -> tuple[MapSize, bool]:
        """Returns (size of a crop, whether the domain has labels)."""
        height, width = surroundings.sizes[self.domain]
        if self.size[0] > height or self.size[1] > width:
            refuse(
                f"{name}.size",
                self.size,
                f"a crop inside the {self.domain} image of {height}x{width} "
                f"(config.data.{self.domain}_size)",
            )
        return self.size, self.domain in surroundings.labelled


VIEW = Crops
