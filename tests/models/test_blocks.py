"""Equal blocks in a loop compute what they compute written out."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.models.blocks import apply_blocks


class Residual(nn.Module):
    rate: float = 0.0
    has_state: bool = False

    @nn.compact
    def __call__(self, features: jax.Array, scale: float, train: bool) -> jax.Array:
        changed = nn.Dropout(self.rate, deterministic=not train)(nn.Dense(4)(features))
        if self.has_state:
            count = self.variable("counts", "calls", jnp.zeros, ())
            if train and not self.is_initializing():
                count.value += 1
        return features + scale * changed


class Stack(nn.Module):
    in_loop: bool
    rate: float = 0.0
    has_state: bool = False
    depth: int = 3

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False) -> jax.Array:
        create = [
            functools.partial(Residual, self.rate, self.has_state, name=f"block{i}")
            for i in range(self.depth)
        ]
        key = self.make_rng("dropout") if self.has_rng("dropout") else None
        return apply_blocks(
            self, create, features, 0.5, train, in_loop=self.in_loop, dtype=None, key=key
        )


@pytest.fixture
def features() -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 4)), jnp.float32)


@pytest.mark.parametrize("has_state", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_loop_equals_blocks_written_out(features, depth, has_state):
    plain, loop = (Stack(in_loop, has_state=has_state, depth=depth) for in_loop in (False, True))
    variables = plain.init(jax.random.key(0), features)
    mutable = [kind for kind in variables if kind != "params"]
    expected, state = plain.apply(variables, features, train=True, mutable=mutable)
    actual, other_state = loop.apply(variables, features, train=True, mutable=mutable)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
    assert jax.tree.structure(other_state) == jax.tree.structure(state)
    assert all(leaf == 1 for leaf in jax.tree.leaves(other_state))
    again = loop.init(jax.random.key(0), features)
    assert all(jax.tree.leaves(jax.tree.map(jnp.array_equal, again, variables)))
    assert ("scan" in str(jax.make_jaxpr(loop.apply)(variables, features))) == (depth > 1)


class Scales(nn.Module):
    in_loop: bool

    @nn.compact
    def __call__(self, features: jax.Array, scales: jax.Array) -> jax.Array:
        create = [functools.partial(Residual, name=f"block{i}") for i in range(len(scales))]
        return apply_blocks(self, create, features, True, in_loop=self.in_loop, of_each=scales)


def test_every_block_gets_its_own_entry(features):
    scales = jnp.array([0.0, 1.0, -2.0])
    variables = Scales(False).init(jax.random.key(0), features, scales)
    plain, loop = (Scales(in_loop).apply(variables, features, scales) for in_loop in (False, True))
    np.testing.assert_allclose(loop, plain, rtol=1e-5, atol=1e-6)
    expected = features
    for scale, block in zip(scales, variables["params"].values(), strict=True):
        expected += scale * (expected @ block["Dense_0"]["kernel"] + block["Dense_0"]["bias"])
    np.testing.assert_allclose(plain, expected, rtol=1e-5, atol=1e-6)


def test_every_block_of_a_loop_has_its_own_key(features):
    loop = Stack(in_loop=True, rate=0.5, depth=2)
    variables = loop.init(jax.random.key(0), features)
    same = jax.tree.map(jnp.zeros_like, variables)
    for block in same["params"].values():
        block["Dense_0"]["bias"] = jnp.ones(4)

    def changes(seed: int) -> np.ndarray:
        rngs = {"dropout": jax.random.key(seed)}
        return np.asarray(loop.apply(same, features, train=True, rngs=rngs) - features)

    # Each block adds 0 or 1: with one key for both, no element would be changed by one alone.
    assert {0, 1, 2} == set(np.round(changes(0)).astype(int).ravel())
    np.testing.assert_array_equal(changes(0), changes(0))
    assert np.any(changes(0) != changes(1))
