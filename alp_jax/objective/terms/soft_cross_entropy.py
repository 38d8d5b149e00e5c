"""Trains on soft pseudo-labels: LRENT of Zou et al., ICCV 2019."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from alp_jax.objective.pixel_term import PixelTerm
from alp_jax.objective.types import Seen
from alp_jax.settings.schema import refuse, setting


@dataclasses.dataclass(frozen=True)
class SoftCrossEntropy(PixelTerm):
    """Averages -sum_k y_k log p_k over the pixels that have a soft label.

    y is `Sample.soft_labels`, and a pixel has one where sum_k y_k > 0. The mean is over the number
    of such pixels in the whole batch; without any the loss is 0. Code: yzou2/CRST,
    `reg_loss_calc_expand`, where labels of source images are one-hot.
    """

    view: str = setting("self_training", "View whose soft labels are learned.")
    title: ClassVar[str] = "soft cross-entropy"
    unit: ClassVar[str] = "nats"

    def average(self, seen: Seen) -> jax.Array:
        """Computes the mean cross-entropy of the pixels with a soft label."""
        log_probs = jax.nn.log_softmax(self.upsample(seen))
        soft_labels, weights = seen.sample.soft_labels, seen.sample.weights
        if getattr(soft_labels, "shape", None) != log_probs.shape:
            refuse(
                f"config.terms.{self.name}.view",
                self.view,
                f"a view whose samples have soft labels of the shape {list(log_probs.shape)}",
            )
        soft_labels = jnp.asarray(soft_labels)
        losses = -jnp.sum(soft_labels * log_probs, axis=-1)
        if weights is not None:
            losses = losses * weights
        count = jnp.sum(jnp.sum(soft_labels, axis=-1) > 0)
        return jnp.sum(losses) / jnp.maximum(count, 1)


TERM = SoftCrossEntropy
