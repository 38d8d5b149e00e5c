"""Measures how much two classifiers disagree: the discrepancy of MCD."""

import dataclasses

import jax
import jax.numpy as jnp

from alp_jax.models.segmenter import MAIN
from alp_jax.objective import patches
from alp_jax.objective.types import TARGET, Contribution, Curve, Seen, Term
from alp_jax.settings.schema import setting


@dataclasses.dataclass(frozen=True)
class Discrepancy(Term):
    """Averages |p_1 - p_2| over images, pixels and classes, at the images' size.

    Saito et al., CVPR 2018; code: mil-tokyo/MCD_DA, segmentation/loss.py.
    """

    view: str = setting(TARGET, "View on which the heads are compared.")
    head: str = setting(MAIN, "First head.")
    other_head: str = setting("second", "Second head.")

    @property
    def views(self) -> tuple[str, ...]:
        """The view on which the heads are compared."""
        return (self.view,)

    @property
    def heads(self) -> tuple[str, ...]:
        """The two heads."""
        return self.head, self.other_head

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The curve of the discrepancy."""
        return (Curve("discrepancy of the classifiers", (f"loss/{self.name}",), short="disc"),)

    def loss(self, seen: Seen) -> Contribution:
        """Computes the mean absolute difference of the two heads' probabilities."""
        size = seen.sample.images.shape[1:3]
        first, second = (
            jax.nn.softmax(patches.upsample(seen.outputs.logits[head], size)) for head in self.heads
        )
        value = jnp.mean(jnp.abs(first - second))
        return Contribution(value, {f"loss/{self.name}": value})


TERM = Discrepancy
