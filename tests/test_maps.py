import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.objective import maps
from tests import reference

LOGITS = np.random.default_rng(0).normal(size=(2, 3, 4, 5)) * 3


def test_self_information_by_hand():
    # p = (1/2, 1/2): -p ln p = 0.5 * 0.693147 = 0.346574 for both classes.
    np.testing.assert_allclose(maps.self_information(jnp.zeros(2)), [0.34657359] * 2, rtol=1e-6)
    # p = (3/4, 1/4): -0.75 ln 0.75 = 0.2157615, -0.25 ln 0.25 = 0.3465736.
    logits = jnp.log(jnp.array([3.0, 1.0]))
    np.testing.assert_allclose(maps.self_information(logits), [0.2157615, 0.3465736], rtol=1e-6)


def test_self_information_equals_reference():
    expected = reference.self_information(LOGITS)
    np.testing.assert_allclose(maps.self_information(jnp.asarray(LOGITS)), expected, atol=1e-6)


def test_certain_prediction_has_no_information_and_a_finite_gradient():
    logits = jnp.array([0.0, -200.0, -1e5])
    assert np.array_equal(maps.self_information(logits), [0.0, 0.0, 0.0])
    gradient = jax.grad(lambda x: maps.self_information(x).sum())(logits)
    assert np.all(np.isfinite(gradient))


def test_gradient_equals_finite_differences():
    weights = np.random.default_rng(1).normal(size=5)
    logits = LOGITS[0, 0, 0]
    gradient = np.asarray(
        jax.grad(lambda x: jnp.sum(weights * maps.self_information(x)))(jnp.asarray(logits))
    )
    for k in range(5):
        step = np.zeros(5)
        step[k] = 1e-6
        up, down = (reference.self_information(logits + sign * step) for sign in (1, -1))
        assert gradient[k] == pytest.approx(np.sum(weights * (up - down)) / 2e-6, abs=1e-5)


def test_kinds():
    logits = jnp.zeros((1, 19))
    np.testing.assert_allclose(maps.compute_map(logits, "softmax"), np.full((1, 19), 1 / 19))
    # Uniform p: AdvEnt's map is 1 / K in every channel; the paper's is log K times that.
    normalized = maps.compute_map(logits, "normalized_self_information")
    np.testing.assert_allclose(normalized, np.full((1, 19), 1 / 19), rtol=1e-6)
    plain = maps.compute_map(logits, "self_information")
    np.testing.assert_allclose(plain, np.full((1, 19), np.log(19) / 19), rtol=1e-6)
    np.testing.assert_allclose(maps.entropy(logits), [1.0], rtol=1e-6)
    np.testing.assert_array_equal(
        maps.compute_map(jnp.asarray(LOGITS), "logits"), LOGITS.astype("f")
    )
    with pytest.raises(ValueError, match="Unknown map 'sine'"):
        maps.compute_map(logits, "sine")
