"""Computes the maps to align: self-information, softmax probabilities or logits.

Synopsis:

  maps = self_information(logits)        # h(f(x)) of Eq. 3: [..., K], nats

The paper (Cicek et al., ACCV 2020, section 3.1) aligns h(y) = -y log y per class, not summed over
classes, with the natural logarithm and no normalisation. AdvEnt divides the same map by log K.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

MapKind = Literal["softmax", "self_information", "normalized_self_information", "logits"]
MAP_KINDS: tuple[str, ...] = get_args(MapKind)


def self_information(logits: jax.Array) -> jax.Array:
    """Computes the weighted self-information -p log p of every class.

    Implements h of Eq. (3) of Cicek et al., ACCV 2020. `log_softmax` computes the logarithm, so no
    epsilon is needed, and a class of vanishing probability contributes exactly 0.

    Args:
      logits: [..., K] float, unnormalised.
    Returns:
      [..., K] nats, each in [0, 1/e].
    """
    log_probs = jax.nn.log_softmax(logits)
    return -jnp.exp(log_probs) * log_probs


def entropy(logits: jax.Array) -> jax.Array:
    """Computes the entropy of the prediction, divided by log K: [..., K] -> [...] in [0, 1]."""
    return jnp.sum(self_information(logits), axis=-1) / jnp.log(logits.shape[-1])


def compute_map(logits: jax.Array, kind: MapKind) -> jax.Array:
    """Computes the map that the discriminator sees.

    Args:
      logits: [..., K] float, unnormalised.
      kind: "softmax" (p; AdaptSegNet), "self_information" (-p log p in nats; the paper),
        "normalized_self_information" (the same divided by log K; AdvEnt) or "logits" (CyCADA).
    Returns:
      [..., K], the same shape as `logits`.
    Raises:
      ValueError: if `kind` is another text.
    """
    match kind:
        case "softmax":
            return jax.nn.softmax(logits)
        case "self_information":
            return self_information(logits)
        case "logits":
            return logits
        case "normalized_self_information":
            return self_information(logits) / jnp.log(logits.shape[-1])
    raise ValueError(f"Unknown map {kind!r}: expected one of {', '.join(MAP_KINDS)}.")
