"""Trains on labels with the focal cross-entropy: CLAN of Luo et al., CVPR 2019."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from alp_jax.data.labels import IGNORE_LABEL
from alp_jax.objective.pixel_term import PixelTerm
from alp_jax.objective.types import SOURCE, Seen
from alp_jax.settings.schema import setting

_LEAST = 1e-9  # CLAN's code; a less probable label has no gradient.


@dataclasses.dataclass(frozen=True)
class FocalCrossEntropy(PixelTerm):
    """Averages (1 - q)^gamma (-log q) over the labelled pixels of a batch.

    q is the probability of the label, in [1e-9, 1 - 1e-9]. Code: RoyalVane/CLAN, `CrossEntropy2d`
    of utils/loss.py. As there, ignored pixels count nowhere, and the gradient is 0 where q is
    outside of that range. Deviations: the code is right for batches of one image alone, and fails
    without a labelled pixel, where the loss is 0 here.
    """

    view: str = setting(SOURCE, "View whose labels are learned.")
    gamma: float = setting(
        2.0, "Power of 1 - q, which lowers the loss of pixels that are predicted well.", at_least=1
    )
    title: ClassVar[str] = "focal cross-entropy"
    unit: ClassVar[str] = "nats"
    needs_labels: ClassVar[bool] = True

    def average(self, seen: Seen) -> jax.Array:
        """Computes the mean focal loss of the labelled pixels."""
        probs = jax.nn.softmax(self.upsample(seen))
        labels = jnp.asarray(seen.sample.labels)
        valid, known = labels != IGNORE_LABEL, labels < probs.shape[-1]
        index = jnp.where(known, labels, 0).astype(jnp.int32)
        found = jnp.take_along_axis(probs, index[..., None], axis=-1)[..., 0]
        found = jnp.clip(found, _LEAST, 1 - _LEAST)
        losses = (1 - found) ** self.gamma * -jnp.log(found)
        if seen.sample.weights is not None:
            losses = losses * seen.sample.weights
        # As in `cross_entropy`, a label that is no class makes the loss NaN.
        total = jnp.sum(jnp.where(known, losses, jnp.nan), where=valid)
        return total / jnp.maximum(jnp.sum(valid), 1)


TERM = FocalCrossEntropy
