"""Minimises the entropy of predictions: MinEnt of Vu et al., CVPR 2019, and the penalty of FDA."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from alp_jax.objective import maps
from alp_jax.objective.pixel_term import PixelTerm
from alp_jax.objective.types import Seen
from alp_jax.settings.schema import setting

_FLOOR = 1e-8  # FDA's code; keeps the gradient of the power finite at an entropy of 0.


@dataclasses.dataclass(frozen=True)
class Entropy(PixelTerm):
    """Averages the entropy of the pixels' predictions, divided by log K so that it is in [0, 1].

    E = -sum_k p_k log p_k / log K; code: valeoai/ADVENT, `entropy_loss`. Deviation: log p is from
    `log_softmax`, where the code has log2(p + 1e-30).

    `top_share` below 1 takes only the most uncertain pixels (ER of AdvEnt's paper, whose code was
    not published): in each image of N pixels those whose entropy is at least the n-th highest,
    n = round(top_share * N) and at least 1. Pixels of equal entropy at that place are all taken.
    Which pixels are taken is a constant for the gradient.

    `exponent` replaces E by (E^2 + 1e-8)^exponent (YanchaoYang/FDA, which takes 2).
    """

    weight: float = setting(0.001, "Factor of the loss (AdvEnt).", at_least=0)
    top_share: float = setting(
        1.0,
        "Share of each image's pixels, those of highest entropy, whose mean is taken: all (1, "
        "MinEnt), or 0.3 (MinEnt + ER).",
        above=0,
        at_most=1,
    )
    exponent: float = setting(
        0.0,
        "Power of FDA's penalty (E^2 + 1e-8)^exponent, 2 in its code; 0: the entropy E itself.",
        at_least=0,
    )
    resolution: Literal["images", "logits"] = setting(
        "images",
        "Pixels that are averaged: those of the images, to which logits are upsampled (AdvEnt), or "
        "those of the logits, at the network's stride (FDA).",
    )
    title: ClassVar[str] = "entropy"

    def average(self, seen: Seen) -> jax.Array:
        """Computes the mean entropy, or penalty, of the taken pixels."""
        if self.resolution == "images":
            entropy = maps.entropy(self.upsample(seen))
        else:
            entropy = maps.entropy(seen.outputs.logits[self.head])
        penalty = (entropy**2 + _FLOOR) ** self.exponent if self.exponent else entropy
        if self.top_share == 1.0:
            return jnp.mean(penalty)
        return jnp.mean(penalty, where=self._find_top(jax.lax.stop_gradient(entropy)))

    def _find_top(self, entropy: jax.Array) -> jax.Array:
        """Finds the pixels of highest entropy in each image: [B, H, W] bool."""
        flat = entropy.reshape(len(entropy), -1)
        count = max(1, round(self.top_share * flat.shape[1]))
        threshold = jnp.sort(flat, axis=1)[:, -count]
        return entropy >= threshold[:, None, None]


TERM = Entropy
