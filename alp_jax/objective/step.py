"""Computes one train step: pure, unjitted, no I/O.

Synopsis:

  step = jax.jit(functools.partial(train_step, setup=setup), donate_argnums=0)
  state, scalars = step(state, batch, jax.random.key(seed))
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from alp_jax.data.samples import Batch, Sample
from alp_jax.objective import checks
from alp_jax.objective.objective import Objective, Setup
from alp_jax.objective.phases import JOINT, Phase
from alp_jax.objective.state import DiscriminatorState, SegmenterState, TrainState
from alp_jax.objective.teacher import Taught
from alp_jax.objective.types import Scalars, Seen, Term, View

PyTree = Any
# View -> term -> `Contribution.kept`, the input of `Term.own_loss`.
Kept = dict[str, dict[str, PyTree]]

# Roles folded into a view's key: for its terms, if the view itself uses the key, and for the
# network (dropout).
_TERMS, _NETWORK = 1, 2
_OF_SEGMENTER = "/segmenter"


def train_step(
    state: TrainState, batch: Batch, rng: jax.Array, *, setup: Setup
) -> tuple[TrainState, Scalars]:
    """Updates the segmenter, in one phase or several, and the parameters that terms own, once.

    In the usual one phase, the gradients of all players are taken at the parameters of `state`, on
    the same patches. No gradient of one player's loss reaches the other's parameters (Eqs. (1) to
    (4) of Cicek et al., ACCV 2020, in the order of AdvEnt's code).

    Args:
      state: the state before the step; donated when the step is jitted.
      batch: a sample for each domain that the objective's views read.
      rng: key of the run; a view's key in a step is fold_in(fold_in(rng, role), step).
      setup: networks, optimizers and objective.
    Returns:
      (new state, scalars to log): losses in nats, accuracies in [0, 1].
    """
    if bool(setup.objective.owners) != (state.discriminator is not None):
        raise ValueError("The state must hold a discriminator exactly when a term owns one.")
    kept: Kept = {}
    scalars: Scalars = {}
    entry = state
    for index, phase in enumerate(setup.objective.phases):
        segmenter, found, logged = _run_phase(entry, batch, rng, setup, index)
        entry = dataclasses.replace(entry, segmenter=segmenter)
        owned = {name for name, first in setup.objective.owning_phase.items() if first == index}
        for view, values in found.items():
            kept.setdefault(view, {}).update(
                {term: value for term, value in values.items() if term in owned}
            )
        # A loss that several phases have is that of the first.
        scalars = {f"{name}{_ending(name, phase)}": value for name, value in logged.items()} | (
            scalars
        )
    discriminator = state.discriminator
    if discriminator is not None:
        discriminator, more = _update_owned(discriminator, state.step, kept, setup)
        scalars |= more
    after = entry.segmenter
    teacher = setup.teacher.update(state.teacher, after.params, after.model_state, state.step)
    return TrainState(state.step + 1, after, discriminator, teacher), scalars


def _ending(scalar: str, phase: Phase) -> str:
    """Returns the ending of the name of a scalar of the segmenter's optimizer in a phase."""
    return phase.name if scalar.endswith(_OF_SEGMENTER) else ""


def _run_phase(
    state: TrainState, batch: Batch, rng: jax.Array, setup: Setup, index: int
) -> tuple[SegmenterState, Kept, Scalars]:
    """Makes the updates of a phase; returns (segmenter, kept, scalars of the last update)."""
    repeats = setup.objective.phases[index].repeats

    def update(
        entry: SegmenterState, repeat: jax.Array | int
    ) -> tuple[SegmenterState, tuple[Kept, Scalars]]:
        before = dataclasses.replace(state, segmenter=entry)
        place = _Place(index, repeat)
        loss, grads, model_state, kept, scalars = _sum_views(before, batch, rng, setup, place)
        after, more = _update_segmenter(before, loss, grads, model_state, setup, index)
        return after, (kept, scalars | more)

    if repeats == 1:
        segmenter, (kept, scalars) = update(state.segmenter, 0)
        return segmenter, kept, scalars
    segmenter, (_, scalars) = jax.lax.scan(update, state.segmenter, jnp.arange(repeats))
    return segmenter, {}, {name: values[-1] for name, values in scalars.items()}


class _Place(NamedTuple):
    """Where in a step an update is made: number of its phase, and of its repeat."""

    phase: int
    repeat: jax.Array | int


def _sum_views(
    state: TrainState, batch: Batch, rng: jax.Array, setup: Setup, place: _Place
) -> tuple[jax.Array, PyTree, PyTree, Kept, Scalars]:
    """Sums the loss and its gradient over the views.

    A view's forward pass starts once the gradient of the previous view is done, so that activations
    of only one view are held at a time.

    Returns:
      (loss, gradient, model_state, kept, scalars).
    """
    params, model_state = state.segmenter.params, state.segmenter.model_state
    loss, grads = jnp.zeros(()), None
    kept: Kept = {}
    scalars: Scalars = {}
    for view in setup.objective.views_of(setup.objective.phases[place.phase]):
        key = jax.random.fold_in(jax.random.fold_in(rng, view.role), state.step)
        made = _make_sample(view, batch, key, state, setup)
        sample = checks.check_sample(view, made, batch, setup.segmenter.heads)
        if grads is not None:
            # Waits for all gradients of the previous view; the first layer's is computed last.
            _, images = jax.lax.optimization_barrier((grads, sample.images))
            sample = sample._replace(images=images)
        view_loss = _make_view_loss(view, state, key, setup, place)
        grad_fn = jax.value_and_grad(view_loss, has_aux=True)
        (value, (statistics, kept[view.name], logged)), gradient = grad_fn(
            params, model_state, sample
        )
        if view.moves_statistics:
            model_state = statistics
        for name, scalar in logged.items():
            scalars[name] = scalars[name] + scalar if name in scalars else scalar
        loss = value if grads is None else loss + value
        grads = gradient if grads is None else jax.tree.map(jnp.add, grads, gradient)
    return loss, grads, model_state, kept, scalars


def _make_sample(
    view: View, batch: Batch, key: jax.Array, state: TrainState, setup: Setup
) -> Sample:
    """Makes the images of a view, with its teacher's help where it wants that."""
    if not view.uses_teacher:
        return view.make(batch, key)
    if state.teacher is None:
        raise ValueError(f"The view {view.name} needs a state with a teacher.")
    make: Callable[..., Sample] = view.make
    teacher = Taught(setup.segmenter, state.teacher, setup.teacher.label_temperature)
    return make(batch, key, teacher=teacher)


def _make_view_loss(
    view: View, state: TrainState, key: jax.Array, setup: Setup, place: _Place
) -> Callable[..., tuple[jax.Array, tuple[PyTree, dict[str, PyTree], Scalars]]]:
    """Makes the loss of a view as a function of the segmenter's parameters."""
    term_key = jax.random.fold_in(key, _TERMS) if view.is_random else key
    network_key = jax.random.fold_in(key, _NETWORK)
    if place.phase > 0:
        network_key = jax.random.fold_in(network_key, place.phase)
        network_key = jax.random.fold_in(network_key, place.repeat)
    owned = {} if state.discriminator is None else state.discriminator.params
    phase = setup.objective.phases[place.phase]

    def view_loss(
        params: PyTree, model_state: PyTree, sample: Sample
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, PyTree], Scalars]]:
        if phase.moves != JOINT.moves:
            params = _hold(params, phase, setup)
        outputs, statistics = setup.segmenter.apply(
            params, model_state, sample.images, train=True, key=network_key
        )
        loss = jnp.zeros(())
        kept: dict[str, PyTree] = {}
        scalars: Scalars = {}
        for term in setup.objective.terms_of(view.name, phase):
            own = owned[term.key] if term.owns_parameters else None
            seen = Seen(view.name, outputs, sample, term_key, params, own, state.step)
            part = checks.check_contribution(term, term.loss(seen))
            if part.loss is not None:
                loss += _weigh(part.loss, term, state.step, phase)
            scalars |= part.scalars
            kept[term.name] = part.kept
        return loss, (statistics, kept, scalars)

    return view_loss


def _weigh(loss: jax.Array, term: Term, step: jax.Array, phase: Phase) -> jax.Array:
    factor, weighted = phase.factor_of(term.name), term.factor(step) * loss
    return weighted if factor == 1 else factor * weighted


def _hold(params: PyTree, phase: Phase, setup: Setup) -> PyTree:
    """Makes constants of the parameters that do not learn in a phase."""
    return jax.tree.map(
        lambda param, group: param if group.part in phase.moves else jax.lax.stop_gradient(param),
        params,
        setup.segmenter.groups(params),
    )


def _update_segmenter(
    state: TrainState,
    loss: jax.Array,
    grads: PyTree,
    model_state: PyTree,
    setup: Setup,
    phase: int,
) -> tuple[SegmenterState, Scalars]:
    optimizer, entry = setup.segmenter_optimizer, state.segmenter
    transform = optimizer.of_phase(phase)
    updates, opt_state = transform.update(grads, entry.opt_state, entry.params)
    params = optax.apply_updates(entry.params, updates)
    scalars = {
        "loss/segmenter": loss,
        "gradient_norm/segmenter": optax.tree.norm(grads),
        "parameter_norm/segmenter": optax.tree.norm(params),
        "learning_rate/segmenter": optimizer.learning_rate(state.step),
    }
    if jax.tree.leaves(model_state):
        scalars["statistics_norm/segmenter"] = optax.tree.norm(model_state)
    return SegmenterState(params, model_state, opt_state), scalars


def _update_owned(
    entry: DiscriminatorState, step: jax.Array, kept: Kept, setup: Setup
) -> tuple[DiscriminatorState, Scalars]:
    """Updates the parameters that terms own; outputs of the segmenter are constants here.

    The terms' own losses share no parameters, so the gradient of their sum holds the gradient of
    each.
    """
    objective: Objective = setup.objective

    def own_loss(params: PyTree) -> tuple[jax.Array, Scalars]:
        loss = jnp.zeros(())
        scalars: Scalars = {}
        for term in objective.owners:
            held = {view: kept[view][term.name] for view in term.views}
            value, logged = term.own_loss(params[term.key], held)
            loss += value
            scalars |= logged
        return loss, scalars

    grads, scalars = jax.grad(own_loss, has_aux=True)(entry.params)
    optimizer = setup.own_optimizer
    updates, opt_state = optimizer.transform.update(grads, entry.opt_state, entry.params)
    params = optax.apply_updates(entry.params, updates)
    scalars |= {
        "gradient_norm/discriminator": optax.tree.norm(grads),
        "parameter_norm/discriminator": optax.tree.norm(params),
        "learning_rate/discriminator": optimizer.learning_rate(step),
    }
    return DiscriminatorState(params, opt_state), scalars
