"""Defines the state of a run: all arrays that a checkpoint needs to resume exactly."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from alp_jax.objective.objective import Setup
from alp_jax.objective.teacher import TeacherState

PyTree = Any


@flax.struct.dataclass
class SegmenterState:
    """The segmenter's (f in the paper) parameters, batch-norm statistics and optimizer state."""

    params: PyTree
    model_state: PyTree
    opt_state: PyTree


@flax.struct.dataclass
class DiscriminatorState:
    """The parameters that terms own (discriminators), by `Term.key`, and their optimizer state."""

    params: PyTree
    opt_state: PyTree


@flax.struct.dataclass
class TrainState:
    """The state of all players after `step` updates.

    `discriminator` is None if no term owns parameters, `teacher` if there is none. Random keys and
    the position in the data are functions of (seed, step) and are not stored.
    """

    step: jax.Array
    segmenter: SegmenterState
    discriminator: DiscriminatorState | None
    teacher: TeacherState | None = None


def create_train_state(rng: jax.Array, setup: Setup) -> TrainState:
    """Creates the state at step 0; the segmenter's initial values do not depend on the terms."""
    segmenter_rng, own_rng = jax.random.split(rng)
    params, model_state = setup.segmenter.init(segmenter_rng)
    opt_state = setup.segmenter_optimizer.transform.init(params)
    segmenter = SegmenterState(params, model_state, opt_state)
    discriminator = None
    if setup.objective.owners:
        own = {
            term.key: term.create(
                jax.random.fold_in(own_rng, index) if index else own_rng,
                setup.segmenter.num_classes,
            )
            for index, term in enumerate(setup.objective.owners)
        }
        discriminator = DiscriminatorState(own, setup.own_optimizer.transform.init(own))
    teacher = setup.teacher.create(params, model_state, setup.segmenter.num_classes)
    return TrainState(jnp.zeros((), jnp.int32), segmenter, discriminator, teacher)
