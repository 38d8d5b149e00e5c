"""Optimizers of the two players, and the polynomial schedule.

Synopsis:

  optimizer = create_segmenter_optimizer(config.optimizer, train_batch_norm_affine=False)
  updates, opt_state = optimizer.transform.update(grads, opt_state, params)
"""

import dataclasses
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from alp_jax.settings.schema import setting

PyTree = Any
SgdPreset = Literal["reference", "clean"]
SGD_PRESETS: tuple[str, ...] = get_args(SgdPreset)

BACKBONE, CLASSIFIER, FROZEN = "backbone", "classifier", "frozen"


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """A gradient transformation and its learning-rate schedule (for the log)."""

    transform: optax.GradientTransformation
    learning_rate: optax.Schedule


def poly_schedule(base: float, horizon_steps: int, power: float) -> optax.Schedule:
    """lr(step) = base * (1 - step / horizon_steps) ** power, and 0 from horizon_steps on."""
    return optax.polynomial_schedule(base, 0.0, power, horizon_steps)


class RepeatedSgdState(NamedTuple):
    """The velocity of every parameter, and the number of updates so far (for the schedule)."""

    velocity: PyTree
    num_updates: jax.Array


def repeated_sgd(
    learning_rate: optax.Schedule, *, momentum: float, weight_decay: float, repeats: int
) -> optax.GradientTransformation:
    """Creates SGD for parameters that the optimizer lists `repeats` times.

    The published code of AdaptSegNet and AdvEnt lists the backbone's tensors once for every module
    that contains them. It was written for PyTorch 0.4, which updates a tensor once per listing in
    each step, and adds the weight decay to the gradient in place, so that the decay accumulates:

      repeats times:  g += weight_decay * p;  v = momentum * v + g;  p -= learning_rate(step) * v

    With `repeats` 1 this is SGD as PyTorch defines it.
    """

    def init(params: PyTree) -> RepeatedSgdState:
        return RepeatedSgdState(jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32))

    def update(
        grads: PyTree, state: RepeatedSgdState, params: PyTree | None = None
    ) -> tuple[PyTree, RepeatedSgdState]:
        rate = learning_rate(state.num_updates)

        def visit(
            grad: jax.Array, velocity: jax.Array, param: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            moved = jnp.zeros_like(param)
            for _ in range(repeats):
                grad = grad + weight_decay * (param + moved)
                velocity = momentum * velocity + grad
                moved = moved - jnp.asarray(rate, param.dtype) * velocity
            return moved, velocity

        leaves = (jax.tree.leaves(tree) for tree in (grads, state.velocity, params))
        visited = [visit(*leaf) for leaf in zip(*leaves, strict=True)]
        structure = jax.tree.structure(grads)
        updates, velocity = (
            jax.tree.unflatten(structure, [pair[i] for pair in visited]) for i in (0, 1)
        )
        return updates, RepeatedSgdState(velocity, state.num_updates + 1)

    return optax.GradientTransformation(init, update)


def segmenter_groups(
    params: PyTree, *, train_batch_norm_affine: bool, sgd_preset: SgdPreset
) -> PyTree:
    """Names the optimizer group of every parameter of a segmenter.

    The classifiers learn ten times faster than the backbone. Batch-norm scale and bias belong to
    the backbone, or are frozen (no update, no weight decay), as in published code. The backbone's
    group is BACKBONE and, in brackets, how often the preset lists the parameter.

    Raises:
      ValueError: for a parameter that belongs to no group.
    """

    def group(path: tuple[Any, ...], _: jax.Array) -> str:
        keys = [entry.key for entry in path]
        if keys[0] in ("classifier", "aux_classifier") and keys[-1] in ("kernel", "bias"):
            return CLASSIFIER
        if keys[0] == "backbone" and keys[-1] in ("kernel", "scale", "bias"):
            if keys[-1] != "kernel" and not train_batch_norm_affine:
                return FROZEN
            return _backbone_group(_listings(keys) if sgd_preset == "reference" else 1)
        raise ValueError(f"Parameter {'/'.join(keys)} belongs to no learning-rate group.")

    return jax.tree_util.tree_map_with_path(group, params)


def _backbone_group(repeats: int) -> str:
    return f"{BACKBONE}[{repeats}]"


def _listings(keys: list[str]) -> int:
    """How often published code lists a backbone parameter: once for every module around it.

    The stem's layers are modules by themselves; a block's are inside the block and its stage; a
    projection's inside a sequence of its own, too.
    """
    if not keys[1].startswith("layer"):
        return 1
    return 4 if keys[2].startswith("downsample") else 3


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """Interim: replaced at the merge."""

    segmenter_learning_rate: float = setting(2.5e-4, "SGD, backbone.", at_least=0)
    classifier_learning_rate_multiplier: float = setting(10.0, "(AdvEnt)", at_least=0)
    sgd_preset: SgdPreset = setting("reference", "s")
    momentum: float = setting(0.9, "(AdvEnt)", at_least=0, below=1)
    weight_decay: float = setting(5e-4, "s", at_least=0)
    gradient_clip_norm: float = setting(0.0, "s", at_least=0)
    discriminator_learning_rate: float = setting(1e-4, "Adam.", at_least=0)
    adam_b1: float = setting(0.9, "(AdvEnt)", at_least=0, below=1)
    adam_b2: float = setting(0.99, "(AdvEnt)", at_least=0, below=1)
    adam_eps: float = setting(1e-8, "(AdvEnt)", above=0)
    poly_power: float = setting(0.9, "s", at_least=0)
    horizon_steps: int = setting(250_000, "s", at_least=1)


def create_segmenter_optimizer(
    config: OptimizerSettings, *, train_batch_norm_affine: bool
) -> Optimizer:
    """SGD with momentum and coupled weight decay, as PyTorch defines both (`repeated_sgd`).

    Args:
      config: `config.optimizer` (fields: configs/default.py).
      train_batch_norm_affine: whether batch-norm scale and bias learn.
    """
    schedule = poly_schedule(
        config.segmenter_learning_rate, config.horizon_steps, config.poly_power
    )

    def sgd(multiplier: float, repeats: int) -> optax.GradientTransformation:
        return repeated_sgd(
            lambda step: multiplier * schedule(step),
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            repeats=repeats,
        )

    groups = optax.partition(
        {
            **{_backbone_group(repeats): sgd(1.0, repeats) for repeats in (1, 3, 4)},
            CLASSIFIER: sgd(config.classifier_learning_rate_multiplier, 1),
            FROZEN: optax.set_to_zero(),
        },
        lambda params: segmenter_groups(
            params,
            train_batch_norm_affine=train_batch_norm_affine,
            sgd_preset=config.sgd_preset,
        ),
    )
    if config.gradient_clip_norm > 0:
        groups = optax.chain(optax.clip_by_global_norm(config.gradient_clip_norm), groups)
    return Optimizer(groups, schedule)


def create_own_optimizer(config: OptimizerSettings) -> Optimizer:
    """Adam on the same schedule; fields of `config.optimizer`."""
    schedule = poly_schedule(
        config.discriminator_learning_rate, config.horizon_steps, config.poly_power
    )
    adam = optax.adam(schedule, b1=config.adam_b1, b2=config.adam_b2, eps=config.adam_eps)
    return Optimizer(adam, schedule)
