"""The state of a run: arrays only, everything that a checkpoint must hold to resume exactly."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from alp_jax.models import AUX, MAIN, DomainDiscriminator, Segmenter
from alp_jax.objective.optim import Optimizer

PyTree = Any


@flax.struct.dataclass
class SegmenterState:
    """Parameters, batch-norm statistics and optimizer state of the segmenter f."""

    params: PyTree
    model_state: PyTree
    opt_state: PyTree


@flax.struct.dataclass
class DiscriminatorState:
    """Parameters, by head of the segmenter, and optimizer state of the discriminator d."""

    params: PyTree
    opt_state: PyTree


@flax.struct.dataclass
class TrainState:
    """Both players after `step` updates; no discriminator when nothing is aligned.

    Random keys and the position in the data are functions of (seed, step) and need no place here.
    """

    step: jax.Array
    segmenter: SegmenterState
    discriminator: DiscriminatorState | None


def create_train_state(
    rng: jax.Array,
    segmenter: Segmenter,
    segmenter_optimizer: Optimizer,
    discriminator: DomainDiscriminator,
    discriminator_optimizer: Optimizer,
    *,
    has_discriminator: bool,
) -> TrainState:
    """Creates the state at step 0; the segmenter's start does not depend on the discriminator."""
    segmenter_rng, discriminator_rng = jax.random.split(rng)
    params, model_state = segmenter.init(segmenter_rng)
    segmenter_state = SegmenterState(
        params, model_state, segmenter_optimizer.transform.init(params)
    )
    discriminator_state = None
    if has_discriminator:
        rngs = {MAIN: discriminator_rng, AUX: jax.random.fold_in(discriminator_rng, 1)}
        params = {head: discriminator.init(rngs[head]) for head in segmenter.heads}
        discriminator_state = DiscriminatorState(
            params, discriminator_optimizer.transform.init(params)
        )
    return TrainState(jnp.zeros((), jnp.int32), segmenter_state, discriminator_state)
