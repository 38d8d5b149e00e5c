"""Losses: cross-entropy on labelled pixels and the two players' domain cross-entropy.

Synopsis:

  total, count = cross_entropy(logits, labels)               # Eq. 1, nats and pixels
  adversarial = domain_cross_entropy(domain_logits, SOURCE)   # one term of Eq. 2, nats

Domains are 0 (source) and 1 (target), the discriminator gives the logit of "target"; a two-way
softmax over [source, target], as the paper writes it, expresses the same.
"""

import jax
import jax.numpy as jnp
import optax

from alp_jax.data.labels import IGNORE_LABEL

SOURCE, TARGET = 0, 1


def cross_entropy(
    logits: jax.Array, labels: jax.Array, weights: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Sums the cross-entropy of the labelled pixels of a batch.

    Implements Eq. (1) of Cicek et al., ACCV 2020; the mean over the labelled pixels of the whole
    batch, as published code takes it, is `total / max(count, 1)`.

    Args:
      logits: [..., K] float, unnormalised.
      labels: [...] integer in [0, K) or IGNORE_LABEL.
      weights: [...] what a pixel's loss is multiplied by; None: 1.
    Returns:
      (total, count): nats (float32 or wider) and pixels (int32); both 0 when no pixel is labelled.
      A label that is neither makes the total NaN, so that it cannot go unnoticed.
    Raises:
      ValueError: if the shapes differ (at trace time).
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"Logits {logits.shape} do not match labels {labels.shape}.")
    valid = labels != IGNORE_LABEL
    known = (labels >= 0) & (labels < logits.shape[-1])
    safe_labels = jnp.where(known, labels, 0).astype(jnp.int32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, safe_labels)
    losses = jnp.where(known, losses, jnp.nan)
    accumulator = jnp.promote_types(losses.dtype, jnp.float32)
    if weights is not None:
        losses = losses * weights
    total = jnp.sum(jnp.where(valid, losses, 0.0), dtype=accumulator)
    return total, jnp.sum(valid, dtype=jnp.int32)


def domain_cross_entropy(domain_logits: jax.Array, domain: int) -> jax.Array:
    """Averages the cross-entropy of the discriminator's decisions against one domain.

    One of the two terms of Eq. (2) of Cicek et al., ACCV 2020.

    Args:
      domain_logits: float, any shape, at least one element; logit of the target domain.
      domain: SOURCE or TARGET, what the decisions should be.
    Returns:
      scalar, nats.
    Raises:
      ValueError: if there is no decision to average (at trace time): the map was too small for the
        discriminator, and the mean would be NaN.
    """
    if domain_logits.size == 0:
        raise ValueError(
            f"The discriminator gave no decision: its output is {domain_logits.shape}."
        )
    labels = jnp.full_like(domain_logits, domain)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(domain_logits, labels))


def domain_accuracy(domain_logits: jax.Array, domain: int) -> jax.Array:
    """Computes the share of decisions that name the right domain, in [0, 1]."""
    return jnp.mean((domain_logits > 0) == (domain == TARGET), dtype=jnp.float32)
