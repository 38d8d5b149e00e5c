"""Optimizers of the segmenter and of the parameters that terms own, and their schedule.

Synopsis:

  optimizer = create_segmenter_optimizer(build(OptimizerSettings, config.optimizer), segmenter)
  updates, opt_state = optimizer.transform.update(grads, opt_state, params)
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from alp_jax.models.parts import Group, Part
from alp_jax.models.segmenter import Segmenter
from alp_jax.settings.schema import setting

PyTree = Any
SgdPreset = Literal["reference", "clean"]

FROZEN = "frozen"
# Part of a network -> its groups' name in the optimizer's state, which checkpoints hold; in order.
_NAMES = {"backbone": "backbone", "decoder": "classifier", "frozen": FROZEN}


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """The optimizers: SGD for the segmenter, Adam for what terms own (discriminators)."""

    segmenter_learning_rate: float = setting(
        2.5e-4, "Initial learning rate of the backbone.", at_least=0
    )
    classifier_learning_rate_multiplier: float = setting(
        10.0, "Learning rate of the decoders as a multiple of the backbone's (AdvEnt).", at_least=0
    )
    sgd_preset: SgdPreset = setting(
        "reference",
        "How often SGD visits a parameter of the backbone in a step: as often as published code "
        "lists it in its optimizer, three or four times (reference, AdvEnt; the learning rates, "
        "which the paper shares, were chosen with that), or once (clean).",
    )
    momentum: float = setting(0.9, "Momentum of SGD (AdvEnt).", at_least=0, below=1)
    weight_decay: float = setting(
        5e-4,
        "Weight decay of SGD, which is added to the gradient as in PyTorch (AdvEnt).",
        at_least=0,
    )
    gradient_clip_norm: float = setting(
        0.0, "Largest global norm of the segmenter's gradient; 0 clips nothing.", at_least=0
    )
    discriminator_learning_rate: float = setting(
        1e-4, "Initial learning rate of Adam, for discriminators.", at_least=0
    )
    adam_b1: float = setting(
        0.9, "Decay of Adam's mean of gradients (AdvEnt).", at_least=0, below=1
    )
    adam_b2: float = setting(
        0.99, "Decay of Adam's mean of squared gradients (AdvEnt).", at_least=0, below=1
    )
    adam_eps: float = setting(
        1e-8, "Added to the root of Adam's mean of squares (AdvEnt).", at_least=0
    )
    poly_power: float = setting(
        0.9,
        "Power of the schedule of both rates, initial * (1 - step / horizon_steps) ** power "
        "(AdvEnt).",
        at_least=0,
    )
    horizon_steps: int = setting(
        250_000, "Steps at which the learning rates reach 0 (AdvEnt).", at_least=1
    )


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """A gradient transformation and the learning rate that it uses at a step (for the log)."""

    transform: optax.GradientTransformation
    learning_rate: optax.Schedule


def poly_schedule(base: float, horizon_steps: int, power: float) -> optax.Schedule:
    """Creates lr(step) = base * (1 - step / horizon_steps) ** power; 0 from horizon_steps on."""
    return optax.polynomial_schedule(base, 0.0, power, horizon_steps)


class RepeatedSgdState(NamedTuple):
    """Velocity of every parameter, and the number of updates so far (for the schedule)."""

    velocity: PyTree
    num_updates: jax.Array


def repeated_sgd(
    learning_rate: optax.Schedule, *, momentum: float, weight_decay: float, repeats: int
) -> optax.GradientTransformation:
    """SGD of a parameter that is listed `repeats` times in its optimizer.

    The code line of AdaptSegNet and AdvEnt lists the backbone's tensors once for every module that
    contains them. PyTorch 0.4, for which it was written, then visits a tensor that often in one
    step, and adds the weight decay to the gradient in place, so that it accumulates:

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


@dataclasses.dataclass(frozen=True, order=True)
class _SgdGroup:
    """Parameters with one rule of update; a group without any has a state nevertheless.

    So the paths in a checkpoint do not depend on the preset.
    """

    part: Part
    repeats: int

    @property
    def name(self) -> str:
        """The group's name in the optimizer's state: backbone[3], classifier or frozen."""
        if self.part == "backbone" or (self.part == "decoder" and self.repeats > 1):
            return f"{_NAMES[self.part]}[{self.repeats}]"
        return _NAMES[self.part]


def _get_sgd_group(group: Group, preset: SgdPreset) -> _SgdGroup:
    return _SgdGroup(group.part, group.repeats if preset == "reference" else 1)


def create_segmenter_optimizer(settings: OptimizerSettings, segmenter: Segmenter) -> Optimizer:
    """Creates SGD with momentum and coupled weight decay, as PyTorch defines both.

    The parameters are in groups, as the network's files label them (`Segmenter.groups`). Decoders
    learn faster than the backbone, by `classifier_learning_rate_multiplier`; frozen parameters get
    no update and no weight decay; `Group.decays` and `Group.depth` change nothing here.
    """
    schedule = poly_schedule(
        settings.segmenter_learning_rate, settings.horizon_steps, settings.poly_power
    )

    def sgd(group: _SgdGroup) -> optax.GradientTransformation:
        is_decoder = group.part == "decoder"
        multiplier = settings.classifier_learning_rate_multiplier if is_decoder else 1.0
        return repeated_sgd(
            lambda step: multiplier * schedule(step),
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            repeats=group.repeats,
        )

    def partition(params: PyTree) -> optax.GradientTransformation:
        declared = segmenter.groups(params)
        occurring = {_SgdGroup(group.part, group.repeats) for group in jax.tree.leaves(declared)}
        used = jax.tree.map(lambda group: _get_sgd_group(group, settings.sgd_preset), declared)
        trained = sorted(
            group for group in occurring | set(jax.tree.leaves(used)) if group.part != FROZEN
        )
        transforms = {group.name: sgd(group) for group in trained}
        labels = jax.tree.map(lambda group: group.name, used)
        return optax.partition({**transforms, FROZEN: optax.set_to_zero()}, labels)

    groups = _create_from_params(partition)
    if settings.gradient_clip_norm > 0:
        groups = optax.chain(optax.clip_by_global_norm(settings.gradient_clip_norm), groups)
    return Optimizer(groups, schedule)


def _create_from_params(
    create: Callable[[PyTree], optax.GradientTransformation],
) -> optax.GradientTransformation:
    """Creates a transformation that is known when the tree of parameters is."""

    def update(grads: PyTree, state: PyTree, params: PyTree | None = None) -> tuple[PyTree, PyTree]:
        return create(grads).update(grads, state, params)

    return optax.GradientTransformation(lambda params: create(params).init(params), update)


def create_own_optimizer(settings: OptimizerSettings) -> Optimizer:
    """Creates Adam on the same schedule, for the parameters that terms own."""
    schedule = poly_schedule(
        settings.discriminator_learning_rate, settings.horizon_steps, settings.poly_power
    )
    adam = optax.adam(schedule, b1=settings.adam_b1, b2=settings.adam_b2, eps=settings.adam_eps)
    return Optimizer(adam, schedule)
