"""Regularises predictions on pseudo-labels: MRKLD, MRENT and MRL2 of Zou et al., ICCV 2019."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from alp_jax.data.labels import IGNORE_LABEL
from alp_jax.objective.pixel_term import PixelTerm
from alp_jax.objective.types import Seen
from alp_jax.settings.schema import setting


@dataclasses.dataclass(frozen=True)
class ModelRegularizer(PixelTerm):
    """Averages a penalty of confident predictions over the labelled pixels of target images.

    Code: yzou2/CRST, `reg_loss_calc`. The pixels are those with a label in images of the target
    (`Sample.from_target`; all images where it is None), and the mean is over their number in the
    batch; without any the loss is 0. By `penalty`:

      kld_uniform       -sum_k log p_k / K   MRKLD: the divergence of p from uniform, but a constant
      negative_entropy  sum_k p_k log p_k    MRENT
      l2                sum_k p_k^2          MRL2

    The published code has MRKLD alone. It multiplies the penalty by its option 0.1 twice, as the
    weight of each target image and of the sum, so that the published weight is 0.01.
    """

    weight: float = setting(
        0.01, "Factor of the loss; CRST's 0.1 for MRKLD, which its code applies twice.", at_least=0
    )
    view: str = setting("self_training", "View whose labelled target pixels are regularised.")
    penalty: Literal["kld_uniform", "negative_entropy", "l2"] = setting(
        "kld_uniform",
        "Penalty of a pixel: -sum log p / K (kld_uniform, MRKLD), sum p log p (negative_entropy, "
        "MRENT) or sum p^2 (l2, MRL2).",
    )
    title: ClassVar[str] = "regulariser"
    needs_labels: ClassVar[bool] = True

    def average(self, seen: Seen) -> jax.Array:
        """Computes the mean penalty of the regularised pixels."""
        log_probs = jax.nn.log_softmax(self.upsample(seen))
        regularised = jnp.asarray(seen.sample.labels) != IGNORE_LABEL
        if seen.sample.from_target is not None:
            regularised &= jnp.asarray(seen.sample.from_target)[:, None, None]
        total = jnp.sum(self._penalise(log_probs), where=regularised)
        return total / jnp.maximum(jnp.sum(regularised), 1)

    def _penalise(self, log_probs: jax.Array) -> jax.Array:
        """Computes the penalty of each pixel: [..., K] -> [...]."""
        match self.penalty:
            case "kld_uniform":
                return -jnp.mean(log_probs, axis=-1)
            case "negative_entropy":
                return jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
            case "l2":
                return jnp.sum(jnp.exp(2 * log_probs), axis=-1)
        raise ValueError(f"Unknown penalty {self.penalty!r}.")


TERM = ModelRegularizer
