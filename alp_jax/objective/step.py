"""Computes one train step: pure, unjitted, no I/O.

Synopsis:

  step = jax.jit(functools.partial(train_step, setup=setup), donate_argnums=0)
  state, scalars = step(state, batch, jax.random.key(seed))
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from alp_jax.data.samples import Batch, Sample
from alp_jax.objective import checks
from alp_jax.objective.state import DiscriminatorState, SegmenterState, TrainState
from alp_jax.objective.types import Objective, Scalars, Seen, Setup, View

PyTree = Any
# View -> term -> `Contribution.kept`, the input of `Term.own_loss`.
Kept = dict[str, dict[str, PyTree]]

# Roles folded into a view's key: for its terms, if the view itself uses the key, and for the
# network (dropout).
_TERMS, _NETWORK = 1, 2


def train_step(
    state: TrainState, batch: Batch, rng: jax.Array, *, setup: Setup
) -> tuple[TrainState, Scalars]:
    """Updates the segmenter and the parameters that terms own, each once.

    The gradients of all players are taken at the parameters of `state`, on the same patches. No
    gradient of one player's loss reaches the other's parameters (Eqs. (1) to (4) of Cicek et al.,
    ACCV 2020, in the order of AdvEnt's code).

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
    loss, grads, model_state, kept, scalars = _sum_views(state, batch, rng, setup)
    segmenter, more = _update_segmenter(state, loss, grads, model_state, setup)
    scalars |= more
    discriminator = state.discriminator
    if discriminator is not None:
        discriminator, more = _update_owned(discriminator, state.step, kept, setup)
        scalars |= more
    return TrainState(state.step + 1, segmenter, discriminator), scalars


def _sum_views(
    state: TrainState, batch: Batch, rng: jax.Array, setup: Setup
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
    for view in setup.objective.views:
        key = jax.random.fold_in(jax.random.fold_in(rng, view.role), state.step)
        sample = checks.check_sample(view, view.make(batch, key), batch, setup.segmenter.heads)
        if grads is not None:
            # Waits for all gradients of the previous view; the first layer's is computed last.
            _, images = jax.lax.optimization_barrier((grads, sample.images))
            sample = sample._replace(images=images)
        grad_fn = jax.value_and_grad(_make_view_loss(view, state, key, setup), has_aux=True)
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


def _make_view_loss(
    view: View, state: TrainState, key: jax.Array, setup: Setup
) -> Callable[..., tuple[jax.Array, tuple[PyTree, dict[str, PyTree], Scalars]]]:
    """Makes the loss of a view as a function of the segmenter's parameters."""
    term_key = jax.random.fold_in(key, _TERMS) if view.is_random else key
    owned = {} if state.discriminator is None else state.discriminator.params

    def view_loss(
        params: PyTree, model_state: PyTree, sample: Sample
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, PyTree], Scalars]]:
        outputs, statistics = setup.segmenter.apply(
            params,
            model_state,
            sample.images,
            train=True,
            key=jax.random.fold_in(key, _NETWORK),
        )
        loss = jnp.zeros(())
        kept: dict[str, PyTree] = {}
        scalars: Scalars = {}
        for term in setup.objective.terms_of(view.name):
            own = owned[term.key] if term.owns_parameters else None
            seen = Seen(view.name, outputs, sample, term_key, params, own, state.step)
            part = checks.check_contribution(term, term.loss(seen))
            if part.loss is not None:
                loss += term.weight * part.loss
            scalars |= part.scalars
            kept[term.name] = part.kept
        return loss, (statistics, kept, scalars)

    return view_loss


def _update_segmenter(
    state: TrainState, loss: jax.Array, grads: PyTree, model_state: PyTree, setup: Setup
) -> tuple[SegmenterState, Scalars]:
    optimizer, entry = setup.segmenter_optimizer, state.segmenter
    updates, opt_state = optimizer.transform.update(grads, entry.opt_state, entry.params)
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
