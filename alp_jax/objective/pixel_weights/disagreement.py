"""Weighs pixels by how much two classifiers disagree: CLAN.

Luo et al., CVPR 2019; code: RoyalVane/CLAN, CLAN_train.py and utils/loss.py.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from alp_jax.objective.pixel_weighting import PixelWeights
from alp_jax.settings.schema import refuse, setting


@dataclasses.dataclass(frozen=True)
class Disagreement(PixelWeights):
    """Weighs a pixel floor + factor * (1 - cos(p_1, p_2)), with the heads' probabilities p.

    Up to and including the step `after_step` every pixel weighs 1.
    """

    floor: float = setting(0.4, "Weight where the heads agree (epsilon of CLAN).", at_least=0)
    factor: float = setting(
        40.0,
        "Factor of the disagreement: 40 for GTA5, 10 for SYNTHIA (lambda_local of CLAN).",
        at_least=0,
    )
    after_step: int = setting(
        5000, "Last step, from 0, in which every pixel weighs 1 (CLAN: 5000).", at_least=-1
    )

    def compute(self, logits: Sequence[jax.Array], step: jax.Array) -> jax.Array:
        """Computes the weights [B * P, h, w] from the logits of two heads."""
        first, second = (jax.nn.softmax(found) for found in logits)
        norms = jnp.linalg.norm(first, axis=-1) * jnp.linalg.norm(second, axis=-1)
        cosine = jnp.sum(first * second, axis=-1) / norms
        weights = self.floor + self.factor * (1 - cosine)
        return jnp.where(step > self.after_step, weights, 1.0)

    def check_fit(self, name: str, heads: Sequence[str], decision: str) -> None:
        """Refuses other than two heads, or decisions of other units than pixels."""
        if len(heads) != 2:
            refuse(f"{name}.kind", "disagreement", "two heads joined by + as the alignment's head")
        if decision != "pixel":
            refuse(f"{name}.kind", "disagreement", "the alignment's decision to be pixel")


PIXEL_WEIGHTS = Disagreement
