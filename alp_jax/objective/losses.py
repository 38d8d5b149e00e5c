"""Computes losses: the cross-entropy on labelled pixels, and the domain cross-entropy.

Synopsis:

  total, count = cross_entropy(logits, labels)               # Eq. 1, nats and pixels
  adversarial = domain_cross_entropy(domain_logits, SOURCE_LABEL)  # one term of Eq. 2, nats

Domain labels are 0 (source) and 1 (target), and the discriminator returns the logit of "target".
This is equivalent to the two-way softmax over [source, target] that the paper writes.
"""

import jax
import jax.numpy as jnp
import optax

from alp_jax.data.labels import IGNORE_LABEL

SOURCE_LABEL, TARGET_LABEL = 0, 1


def cross_entropy(
    logits: jax.Array, labels: jax.Array, weights: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Sums the cross-entropy over the labelled pixels of a batch.

    Implements Eq. (1) of Cicek et al., ACCV 2020. Published code takes the mean over the labelled
    pixels of the whole batch: `total / max(count, 1)`.

    Args:
      logits: [..., K] float, unnormalised.
      labels: [...] integer in [0, K) or IGNORE_LABEL.
      weights: [...] factors of the pixels' losses; None: 1.
    Returns:
      (total, count): nats (float32 or wider) and pixels (int32); both 0 when no pixel is labelled.
      Any other label makes the total NaN, so that it cannot go unnoticed.
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


def domain_cross_entropy(
    domain_logits: jax.Array, domain: int, weights: jax.Array | None = None
) -> jax.Array:
    """Averages the cross-entropy between the discriminator's outputs and one domain label.

    One of the two terms of Eq. (2) of Cicek et al., ACCV 2020.

    Args:
      domain_logits: float, any shape, at least one element; logits of the target domain.
      domain: domain label, SOURCE_LABEL or TARGET_LABEL.
      weights: factors of the outputs' losses, of the shape of `domain_logits` without its last
        axis; None: 1. The mean is over the number of outputs, not over the sum of weights.
    Returns:
      scalar, nats.
    Raises:
      ValueError: if `domain_logits` is empty (at trace time): the map was too small for the
        discriminator, and the mean would be NaN.
    """
    labels = _label(domain_logits, domain)
    return _average(optax.sigmoid_binary_cross_entropy(domain_logits, labels), weights)


def domain_squared_error(
    scores: jax.Array, domain: int, weights: jax.Array | None = None
) -> jax.Array:
    """Averages the squared distance of the discriminator's outputs from one domain label.

    Mao et al., ICCV 2017; as AdaptSegNet's option LS uses it. Arguments and errors as in
    `domain_cross_entropy`.
    """
    return _average(jnp.square(scores - _label(scores, domain)), weights)


def _label(outputs: jax.Array, domain: int) -> jax.Array:
    if outputs.size == 0:
        raise ValueError(f"The discriminator gave no decision: its output is {outputs.shape}.")
    return jnp.full_like(outputs, domain)


def _average(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    return jnp.mean(values if weights is None else weights[..., None] * values)


def domain_accuracy(domain_logits: jax.Array, domain: int, threshold: float = 0.0) -> jax.Array:
    """Computes the fraction of outputs that classify the domain correctly, in [0, 1].

    Outputs above `threshold` mean the target.
    """
    return jnp.mean((domain_logits > threshold) == (domain == TARGET_LABEL), dtype=jnp.float32)
