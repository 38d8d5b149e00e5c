"""Optimizers of the two players, and the polynomial schedule.

Synopsis:

  optimizer = create_segmenter_optimizer(config.optimizer, train_batch_norm_affine=False)
  updates, opt_state = optimizer.transform.update(grads, opt_state, params)
"""

import dataclasses
from typing import Any

import jax
import ml_collections
import optax

PyTree = Any

BACKBONE, CLASSIFIER, FROZEN = "backbone", "classifier", "frozen"


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """A gradient transformation and the learning rate that it uses at a step (for the log)."""

    transform: optax.GradientTransformation
    learning_rate: optax.Schedule


def poly_schedule(base: float, horizon_steps: int, power: float) -> optax.Schedule:
    """lr(step) = base * (1 - step / horizon_steps) ** power, and 0 from horizon_steps on."""
    return optax.polynomial_schedule(base, 0.0, power, horizon_steps)


def segmenter_groups(params: PyTree, *, train_batch_norm_affine: bool) -> PyTree:
    """Names the learning-rate group of every parameter of a segmenter.

    The classifier learns ten times faster than the backbone. Batch-norm scale and bias belong to
    the backbone, or are frozen (no update, no weight decay), as in published code.

    Raises:
      ValueError: for a parameter that belongs to no group.
    """

    def group(path: tuple[Any, ...], _: jax.Array) -> str:
        keys = [entry.key for entry in path]
        if keys[0] == "classifier" and keys[-1] in ("kernel", "bias"):
            return CLASSIFIER
        if keys[0] == "backbone" and keys[-1] == "kernel":
            return BACKBONE
        if keys[0] == "backbone" and keys[-1] in ("scale", "bias"):
            return BACKBONE if train_batch_norm_affine else FROZEN
        raise ValueError(f"Parameter {'/'.join(keys)} belongs to no learning-rate group.")

    return jax.tree_util.tree_map_with_path(group, params)


def create_segmenter_optimizer(
    config: ml_collections.ConfigDict, *, train_batch_norm_affine: bool
) -> Optimizer:
    """SGD with momentum and coupled weight decay, as PyTorch defines both.

    g += weight_decay * p;  v = momentum * v + g;  p -= learning_rate(step) * v

    Args:
      config: `config.optimizer` (fields: configs/default.py).
      train_batch_norm_affine: whether batch-norm scale and bias learn.
    """
    schedule = poly_schedule(
        config.segmenter_learning_rate, config.horizon_steps, config.poly_power
    )

    def sgd(multiplier: float) -> optax.GradientTransformation:
        return optax.chain(
            optax.add_decayed_weights(config.weight_decay),
            optax.sgd(lambda step: multiplier * schedule(step), momentum=config.momentum),
        )

    groups = optax.partition(
        {
            BACKBONE: sgd(1.0),
            CLASSIFIER: sgd(config.classifier_learning_rate_multiplier),
            FROZEN: optax.set_to_zero(),
        },
        lambda params: segmenter_groups(params, train_batch_norm_affine=train_batch_norm_affine),
    )
    if config.gradient_clip_norm > 0:
        groups = optax.chain(optax.clip_by_global_norm(config.gradient_clip_norm), groups)
    return Optimizer(groups, schedule)


def create_discriminator_optimizer(config: ml_collections.ConfigDict) -> Optimizer:
    """Adam on the same schedule; fields of `config.optimizer`."""
    schedule = poly_schedule(
        config.discriminator_learning_rate, config.horizon_steps, config.poly_power
    )
    adam = optax.adam(schedule, b1=config.adam_b1, b2=config.adam_b2, eps=config.adam_eps)
    return Optimizer(adam, schedule)
