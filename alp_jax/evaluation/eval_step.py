"""Evaluates one batch: pure, unjitted, no I/O."""

import jax
import jax.numpy as jnp

from alp_jax.evaluation import label_free, metrics
from alp_jax.evaluation.predictor import Predictor, Variables
from alp_jax.objective import losses, maps


def eval_step(
    variables: Variables,
    images: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    *,
    predictor: Predictor,
    num_classes: int,
) -> dict[str, jax.Array]:
    """Evaluates one padded batch.

    Args:
      variables: variables of the predictor.
      images: [B, H, W, 3] RGB, 0..255.
      labels: [B, H', W'] train ids or IGNORE_LABEL, at the resolution of scoring.
      mask: [B] bool, False for padding.
      predictor: computes the logits.
      num_classes: number of classes, C.
    Returns:
      {name: array}: confusion [C, C] int32 (rows = truth). Sums over images: entropy_total (mean
      normalised entropy), probs_total [C] (mean prediction), density_total (soft neighbourhood
      density, nats), num_images. num_unknown_labels: number of pixels whose label is neither a
      class nor IGNORE_LABEL. predictions [B, H', W'] uint8; entropy [B, H', W'] in [0, 1].
    """
    logits = predictor.predict(variables, images, (labels.shape[1], labels.shape[2]))
    predictions = jnp.argmax(logits, axis=-1).astype(jnp.uint8)
    entropy = maps.entropy(logits)
    counted = jnp.where(mask[:, None, None], labels, losses.IGNORE_LABEL)
    return {
        "confusion": metrics.compute_confusion(predictions, counted, num_classes),
        "entropy_total": jnp.sum(jnp.mean(entropy, axis=(1, 2)) * mask),
        "probs_total": mask @ jnp.mean(jax.nn.softmax(logits), axis=(1, 2)),
        "density_total": jnp.sum(label_free.soft_neighbourhood_density(logits) * mask),
        "num_images": jnp.sum(mask, dtype=jnp.int32),
        "num_unknown_labels": jnp.sum(
            (counted != losses.IGNORE_LABEL) & ((counted < 0) | (counted >= num_classes)),
            dtype=jnp.int32,
        ),
        "predictions": predictions,
        "entropy": entropy,
    }
