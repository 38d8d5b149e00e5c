"""Optimizers of the segmenter and of the parameters that terms own, and their schedule.

Synopsis:

  optimizer = create_segmenter_optimizer(build(OptimizerSettings, config.optimizer), segmenter)
  updates, opt_state = optimizer.transform.update(grads, opt_state, params)
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from alp_jax.models.parts import Group, Part
from alp_jax.models.segmenter import Segmenter
from alp_jax.objective.optimizer_settings import OptimizerSettings, Preset

PyTree = Any

FROZEN = "frozen"
# Part of a network -> its groups' name in the optimizer's state, which checkpoints hold; in order.
_NAMES = {"backbone": "backbone", "decoder": "classifier", "frozen": FROZEN}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The gradient transformations of a step's updates.

    Attributes:
      transform: of the only update, and of the first of several.
      learning_rate: the learning rate at a step, for the log.
      later: of the updates after the first; all have the same state.
    """

    transform: optax.GradientTransformation
    learning_rate: optax.Schedule
    later: tuple[optax.GradientTransformation, ...] = ()

    def of_phase(self, index: int) -> optax.GradientTransformation:
        """Returns the transformation of a phase of the step, counted from 0."""
        return (self.transform, *self.later)[index]


def create_schedule(settings: OptimizerSettings, base: float) -> optax.Schedule:
    """Creates the learning rate as a function of the step.

      base * step / warmup_steps                          before warmup_steps
      base * (1 - step / horizon_steps) ** poly_power     then; 0 from horizon_steps on

    It does not start anew after the warm-up, as in CLAN's code.
    """
    poly = optax.polynomial_schedule(base, 0.0, settings.poly_power, settings.horizon_steps)

    def rate(step: jax.Array) -> jax.Array:
        step = jnp.asarray(step, float)  # In double precision where that is enabled.
        if not settings.warmup_steps:
            return jnp.asarray(poly(step))
        warm = base * step / settings.warmup_steps
        return jnp.where(step < settings.warmup_steps, warm, poly(step))

    return rate


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


def _get_sgd_group(group: Group, preset: Preset) -> _SgdGroup:
    return _SgdGroup(group.part, group.repeats if preset == "reference" else 1)


class Update(NamedTuple):
    """An update in a step: the parts of the network that it moves, and how often it is made."""

    moves: Collection[Part] = ("backbone", "decoder")
    repeats: int = 1


def create_segmenter_optimizer(
    settings: OptimizerSettings,
    segmenter: Segmenter,
    updates: Sequence[Update] = (Update(),),
) -> Optimizer:
    """Creates SGD with momentum and coupled weight decay, as PyTorch defines both.

    The parameters are in groups, as the network's files label them (`Segmenter.groups`). Decoders
    learn faster than the backbone, by `classifier_learning_rate_multiplier`; frozen parameters get
    no update and no weight decay; `Group.decays` and `Group.depth` change nothing here.

    Args:
      settings: rates and rules.
      segmenter: its network labels the parameters.
      updates: those of a step; a part that an update does not move keeps its velocity, too.
    """
    schedule = create_schedule(settings, settings.segmenter_learning_rate)

    def sgd(group: _SgdGroup, moves: Collection[Part]) -> optax.GradientTransformation:
        is_decoder = group.part == "decoder"
        multiplier = settings.classifier_learning_rate_multiplier if is_decoder else 1.0
        in_a_step = sum(found.repeats for found in updates if group.part in found.moves)
        transform = repeated_sgd(
            lambda count: multiplier * schedule(count if in_a_step == 1 else count // in_a_step),
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            repeats=group.repeats,
        )
        return transform if group.part in moves else _hold(transform)

    def partition(params: PyTree, moves: Collection[Part]) -> optax.GradientTransformation:
        declared = segmenter.groups(params)
        occurring = {_SgdGroup(group.part, group.repeats) for group in jax.tree.leaves(declared)}
        used = jax.tree.map(lambda group: _get_sgd_group(group, settings.sgd_preset), declared)
        trained = sorted(
            group for group in occurring | set(jax.tree.leaves(used)) if group.part != FROZEN
        )
        transforms = {group.name: sgd(group, moves) for group in trained}
        labels = jax.tree.map(lambda group: group.name, used)
        return optax.partition({**transforms, FROZEN: optax.set_to_zero()}, labels)

    def create(update: Update) -> optax.GradientTransformation:
        groups = _create_from_params(functools.partial(partition, moves=update.moves))
        if settings.gradient_clip_norm > 0:
            groups = optax.chain(optax.clip_by_global_norm(settings.gradient_clip_norm), groups)
        return groups

    first, *later = map(create, updates)
    return Optimizer(first, schedule, tuple(later))


def _hold(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """Makes a transformation move nothing and keep its state."""

    def update(grads: PyTree, state: PyTree, params: PyTree | None = None) -> tuple[PyTree, PyTree]:
        del params
        return jax.tree.map(jnp.zeros_like, grads), state

    return optax.GradientTransformation(transform.init, update)


def _create_from_params(
    create: Callable[[PyTree], optax.GradientTransformation],
) -> optax.GradientTransformation:
    """Creates a transformation that is known when the tree of parameters is."""

    def update(grads: PyTree, state: PyTree, params: PyTree | None = None) -> tuple[PyTree, PyTree]:
        return create(grads).update(grads, state, params)

    return optax.GradientTransformation(lambda params: create(params).init(params), update)


def create_own_optimizer(settings: OptimizerSettings) -> Optimizer:
    """Creates Adam, or SGD, on the same schedule, for the parameters that terms own."""
    schedule = create_schedule(settings, settings.discriminator_learning_rate)
    if settings.discriminator_optimizer == "sgd":
        sgd = repeated_sgd(
            schedule, momentum=settings.momentum, weight_decay=settings.weight_decay, repeats=1
        )
        return Optimizer(sgd, schedule)
    create = early_adam if settings.adam_preset == "reference" else optax.adam
    adam = create(schedule, b1=settings.adam_b1, b2=settings.adam_b2, eps=settings.adam_eps)
    return Optimizer(adam, schedule)


def early_adam(
    learning_rate: optax.Schedule, *, b1: float, b2: float, eps: float
) -> optax.GradientTransformation:
    """Adam as PyTorch defined it before version 1.3.

    Epsilon is added to the root before the correction for the start, with t counted from 1:

      p -= learning_rate(t - 1) * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps)

    `optax.adam`, PyTorch since 1.3 and the paper (Kingma and Ba, ICLR 2015, algorithm 1) add it
    after that, which is an epsilon ten times as large in the first step with b2 0.99.
    """

    def init(params: PyTree) -> optax.ScaleByAdamState:
        zeros = functools.partial(jax.tree.map, jnp.zeros_like)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros(params), zeros(params))

    def update(
        grads: PyTree, state: optax.ScaleByAdamState, params: PyTree | None = None
    ) -> tuple[PyTree, optax.ScaleByAdamState]:
        del params
        count = optax.safe_increment(state.count)
        mean = optax.tree.update_moment(grads, state.mu, b1, 1)
        squares = optax.tree.update_moment_per_elem_norm(grads, state.nu, b2, 2)
        passed = jnp.asarray(count, float)
        correction = jnp.sqrt(1 - b2**passed) / (1 - b1**passed)

        def scale(m: jax.Array, v: jax.Array) -> jax.Array:
            return jnp.asarray(correction, m.dtype) * m / (jnp.sqrt(v) + eps)

        return jax.tree.map(scale, mean, squares), optax.ScaleByAdamState(count, mean, squares)

    scale = optax.GradientTransformation(init, update)
    return optax.chain(scale, optax.scale_by_learning_rate(learning_rate))
