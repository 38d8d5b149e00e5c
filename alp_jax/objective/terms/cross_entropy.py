"""Trains on labels with the cross-entropy: Eq. (1) of Cicek et al., ACCV 2020."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from alp_jax.models.segmenter import MAIN
from alp_jax.objective import losses
from alp_jax.objective.pixel_term import PixelTerm
from alp_jax.objective.types import SOURCE, Seen
from alp_jax.settings.schema import setting


@dataclasses.dataclass(frozen=True)
class CrossEntropy(PixelTerm):
    """Averages the cross-entropy over the labelled pixels of a batch, at the images' size."""

    view: str = setting(SOURCE, "View whose labels are learned.")
    head: str = setting(MAIN, "Head that learns them.")
    title: ClassVar[str] = "cross-entropy"
    unit: ClassVar[str] = "nats"
    needs_labels: ClassVar[bool] = True

    @property
    def short(self) -> str:
        """The term's name with "ce" for "cross_entropy"."""
        return self.name.replace("cross_entropy", "ce")

    def average(self, seen: Seen) -> jax.Array:
        """Computes the mean cross-entropy of the logits, upsampled to the images' size."""
        sample = seen.sample
        total, count = losses.cross_entropy(self.upsample(seen), sample.labels, sample.weights)
        return total / jnp.maximum(count, 1)


TERM = CrossEntropy
