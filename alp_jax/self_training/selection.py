"""Chooses pseudo-labels by class-balanced confidence, hard or soft: pure functions.

Symbols: p_k probability of class k, lambda_k its threshold, alpha the temperature.
"""

import jax
import jax.numpy as jnp

from alp_jax.data.labels import IGNORE_LABEL


def choose_labels(
    probs: jax.Array, thresholds: jax.Array, *, temperature: float = 0.0
) -> jax.Array:
    """Labels each pixel with argmax_k p_k / lambda_k, or not at all.

    Hard labels (temperature 0; Zou et al., ECCV 2018, Eq. (6)) are kept where max_k p_k / lambda_k
    is at least 1. For soft labels y_k ~ (p_k / lambda_k)^(1 / alpha) (Zou et al., ICCV 2019, LRENT)
    a pixel is kept where

      sum_k y_k (-ln p_k) + alpha sum_k y_k ln y_k  <  sum_k y_k (-ln lambda_k).

    With ln y_k = ln(p_k / lambda_k) / alpha - ln Z the left side minus the right one is -alpha ln
    Z, so the pixel is kept where Z = sum_k (p_k / lambda_k)^(1 / alpha) exceeds 1.

    Args:
      probs: [..., K] probabilities, or products of them and a prior.
      thresholds: [K], above 0.
      temperature: alpha.
    Returns:
      [...] uint8 classes, IGNORE_LABEL where a pixel is not kept.
    """
    ratios = probs / thresholds
    if temperature == 0:
        is_kept = jnp.max(ratios, axis=-1) >= 1
    else:
        is_kept = jax.nn.logsumexp(jnp.log(ratios) / temperature, axis=-1) > 0
    chosen = jnp.argmax(ratios, axis=-1).astype(jnp.uint8)
    return jnp.where(is_kept, chosen, jnp.uint8(IGNORE_LABEL))


def soften(logits: jax.Array, thresholds: jax.Array, *, temperature: float) -> jax.Array:
    """Computes soft labels y_k ~ (p_k / lambda_k)^(1 / alpha) of all pixels.

    Zou et al., ICCV 2019, LRENT.

    Args:
      logits: [..., K]; their softmax is p.
      thresholds: [K], above 0.
      temperature: alpha, above 0.
    Returns:
      [..., K] probabilities.
    """
    log_thresholds = jnp.log(jnp.asarray(thresholds, logits.dtype))
    return jax.nn.softmax((jax.nn.log_softmax(logits) - log_thresholds) / temperature)
