"""Weighs every pixel 1."""

import dataclasses
from collections.abc import Sequence

import jax

from alp_jax.objective.pixel_weighting import PixelWeights


@dataclasses.dataclass(frozen=True)
class NoWeights(PixelWeights):
    """Weighs every pixel 1."""

    def compute(self, logits: Sequence[jax.Array], step: jax.Array) -> jax.Array | None:
        """Returns None."""
        del logits, step
        return None


PIXEL_WEIGHTS = NoWeights
