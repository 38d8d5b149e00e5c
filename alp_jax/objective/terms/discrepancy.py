"""Measures how much two classifiers disagree: the discrepancy of MCD."""

import dataclasses

import jax
import jax.numpy as jnp

from alp_jax.objective import patches
from alp_jax.objective.head_pair import HeadPair
from alp_jax.objective.types import Contribution, Curve, Seen


@dataclasses.dataclass(frozen=True)
class Discrepancy(HeadPair):
    """Averages |p_1 - p_2| over images, pixels and classes, at the images' size.

    Saito et al., CVPR 2018; code: mil-tokyo/MCD_DA, segmentation/loss.py.
    """

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
