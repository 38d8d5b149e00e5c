"""Computes predictions and what evaluation counts of them: pure, unjitted, no I/O."""

from typing import Any

import jax
import jax.numpy as jnp

from alp_jax.evaluation import label_free, metrics
from alp_jax.models import MAIN, Segmenter
from alp_jax.objective import losses, maps, patches

PyTree = Any


def predict(
    params: PyTree, model_state: PyTree, images: jax.Array, size: patches.Size, segmenter: Segmenter
) -> jax.Array:
    """Computes the main head's logits [B, *size, C] of RGB [B, H, W, 3] in evaluation mode."""
    outputs, _ = segmenter.apply(params, model_state, images, train=False)
    return patches.upsample(outputs.logits[MAIN], size)


def eval_step(
    params: PyTree,
    model_state: PyTree,
    images: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    *,
    segmenter: Segmenter,
    num_classes: int,
) -> dict[str, jax.Array]:
    """Evaluates one padded batch.

    Args:
      params, model_state: of the segmenter.
      images: [B, H, W, 3] RGB, 0..255.
      labels: [B, H', W'] train ids or IGNORE_LABEL, at the resolution that is scored.
      mask: [B] bool, False for padding.
      segmenter: the network.
      num_classes: C.
    Returns:
      confusion [C, C] int32 (rows = truth); sums over images: entropy_total (of the mean
      normalised entropy), probs_total [C] (of the mean prediction), density_total (of the soft
      neighbourhood density, nats), num_images, num_unknown_labels (pixels whose label is neither a
      class nor IGNORE_LABEL); predictions [B, H', W'] uint8 and entropy [B, H', W'] in [0, 1].
    """
    logits = predict(params, model_state, images, (labels.shape[1], labels.shape[2]), segmenter)
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
