"""What the train step promises beside its numbers.

These are those of the reference by tests/objective/test_methods.py and tests/test_parity.py.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alp_jax.objective import optim, step
from alp_jax.run import assembly
from alp_jax.workdir.settings import build_settings
from benchmarks import paper_step
from configs import default
from tests import tiny

RNG = jax.random.key(7)


def create_setup(method: str = "alp_gi", **fields):
    """Creates a method's setup with other values of fields of terms."""
    config = tiny.get_config(pathlib.Path("unused"), method)
    with config.unlocked():
        default.set_everywhere(config.terms, **fields)
    return assembly.create_setup(build_settings(config))


def set_rates(setup, segmenter_rate, own_rate):
    """Gives both players plain SGD."""

    def create(rate) -> optim.Optimizer:
        return optim.Optimizer(optax.sgd(rate), lambda _: jnp.asarray(rate))

    return dataclasses.replace(
        setup, segmenter_optimizer=create(segmenter_rate), own_optimizer=create(own_rate)
    )


class Game:
    """Both players of a game, and one program for all rates."""

    def __init__(self, kind: str):
        setup = create_setup(game=kind, weight=0.5)
        self.batch = tiny.make_batch()
        self.start = assembly.create_train_state(set_rates(setup, 0.0, 0.0), jax.random.key(0))
        self._step = jax.jit(
            lambda state, batch, *rates: step.train_step(
                state, batch, RNG, setup=set_rates(setup, *rates)
            )
        )

    def step(self, batch=None, rates=(0.1, 0.1), number=0):
        """Takes a step from the start, which is then said to be after `number` others."""
        start = self.start.replace(step=jnp.int32(number))
        return self._step(start, batch or self.batch, *rates)


@functools.cache
def create_game(kind: str) -> Game:
    return Game(kind)


def trees_equal(a, b) -> bool:
    return jax.tree.all(jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), a, b))


@pytest.mark.parametrize("kind", ["non_saturating", "minimax"])
def test_neither_players_update_touches_the_other(kind):
    game = create_game(kind)
    start = game.start
    new, _ = game.step()
    assert not trees_equal(new.segmenter.params, start.segmenter.params)
    assert not trees_equal(new.discriminator.params, start.discriminator.params)

    only_segmenter, _ = game.step(rates=(0.1, 0.0))
    assert trees_equal(only_segmenter.discriminator.params, start.discriminator.params)
    assert trees_equal(only_segmenter.segmenter.params, new.segmenter.params)

    only_discriminator, _ = game.step(rates=(0.0, 0.1))
    assert trees_equal(only_discriminator.segmenter.params, start.segmenter.params)
    assert trees_equal(only_discriminator.discriminator.params, new.discriminator.params)


@pytest.mark.parametrize("kind", ["non_saturating", "minimax"])
def test_source_images_get_no_adversarial_gradient_unless_minimax(kind):
    # With labels all ignored the only gradient is the adversarial one.
    game = create_game(kind)
    source = game.batch["source"]
    ignored = source._replace(labels=np.full_like(source.labels, 255))
    new, scalars = game.step({**game.batch, "source": ignored})
    assert float(scalars["loss/cross_entropy"]) == 0.0
    other = ignored._replace(images=255 - source.images)
    new_other, _ = game.step({**game.batch, "source": other})
    is_same = trees_equal(new.segmenter.params, new_other.segmenter.params)
    assert is_same == (kind == "non_saturating")


def test_a_view_moves_the_running_statistics_only_if_it_should():
    config = tiny.get_config(pathlib.Path("unused"), "target_bn")
    config.views.source.moves_statistics = False
    setup = assembly.create_setup(build_settings(config))
    start = assembly.create_train_state(setup, jax.random.key(0))
    batch, entry = tiny.make_batch(), start.segmenter
    new, _ = jax.jit(functools.partial(step.train_step, setup=setup))(start, batch, RNG)
    apply = jax.jit(functools.partial(setup.segmenter.apply, train=True))
    _, expected = apply(entry.params, entry.model_state, batch["target"].images)
    for ours, theirs in zip(
        jax.tree.leaves(new.segmenter.model_state), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_patches_move_from_step_to_step():
    game = create_game("non_saturating")
    losses = [game.step(number=number)[1]["loss/adversarial"] for number in range(3)]
    assert len(set(map(float, losses))) == 3


def test_the_step_takes_over_the_memory_of_its_state():
    setup = create_setup("source_only")
    start = assembly.create_train_state(setup, jax.random.key(0))
    batch = tiny.make_batch(domains=["source"])
    new, _ = assembly.compile_train_step(setup, start, batch, RNG)(start, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(start))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(new))


def test_on_the_cpu_one_domain_is_held_at_a_time():
    config = tiny.get_config(pathlib.Path("unused"))
    with config.unlocked():
        config.model.backbone.depths, config.model.backbone.widths = (
            (4,),
            (16,),
        )  # Three blocks are one loop.
        config.model.backbone.strides, config.model.backbone.dilations = (1,), (1,)
    train_step, arguments = paper_step.describe(build_settings(config))
    lowered = train_step.lower(*arguments)
    by_default, ours = (
        lowered.compile(options).memory_analysis().temp_size_in_bytes
        for options in (None, assembly.COMPILER_OPTIONS["cpu"])
    )
    assert ours < 0.9 * by_default


def test_a_state_without_the_discriminator_of_its_objective_is_refused():
    setup = create_setup()
    start = jax.eval_shape(functools.partial(assembly.create_train_state, setup), RNG)
    with pytest.raises(ValueError, match="exactly when a term owns one"):
        step.train_step(start.replace(discriminator=None), tiny.make_batch(), RNG, setup=setup)
