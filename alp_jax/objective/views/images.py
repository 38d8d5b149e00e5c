"""Feeds the segmenter the unchanged images of a domain."""

import dataclasses
from typing import Literal

import jax

from alp_jax.data.samples import Batch, Sample
from alp_jax.objective.types import Size, Surroundings, View
from alp_jax.settings.schema import refuse, setting


@dataclasses.dataclass(frozen=True)
class Images(View):
    """Feeds the images of one domain, unchanged."""

    domain: Literal["source", "target", "self_training"] = setting(
        "source",
        "Domain whose images are fed; self_training: those of a round (config.rounds), of both.",
    )

    @property
    def domains(self) -> tuple[str, ...]:
        """The domain whose images are fed."""
        return (self.domain,)

    def make(self, batch: Batch, key: jax.Array) -> Sample:
        """Returns the domain's sample; `key` is not used."""
        del key
        return batch[self.domain]

    def describe(self, name: str, surroundings: Surroundings) -> tuple[Size, bool]:
        """Returns (size of the domain's images, whether they have labels)."""
        if self.domain not in surroundings.sizes:
            refuse(f"{name}.domain", self.domain, "a run with config.rounds.num_rounds above 0")
        return surroundings.sizes[self.domain], self.domain in surroundings.labelled


VIEW = Images
