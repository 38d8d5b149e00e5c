"""Pseudo-labels are those of CRST's published code, for the same probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.self_training import selection
from tests.self_training import crst

THRESHOLDS = np.array([0.99, 0.5, 0.3, 1.0], np.float32)


def draw_probs(seed: int = 0) -> np.ndarray:
    logits = 2 * np.random.default_rng(seed).standard_normal((30, 40, 4))
    exps = np.exp(logits)
    return (exps / exps.sum(axis=-1, keepdims=True)).astype(np.float32)


def test_hard_labels_are_equal():
    probs = draw_probs()
    probs[0, 0] = [0.0, 0.5, 0.25, 0.25]  # Exactly at the threshold: kept.
    expected = crst.label_hard(probs, THRESHOLDS)
    found = np.asarray(jax.jit(selection.choose_labels)(probs, THRESHOLDS))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    assert found[0, 0] == 1
    assert (found == 255).any()
    # The weights decide, too: not every label is the most probable class.
    assert (found[found != 255] != probs.argmax(axis=-1)[found != 255]).any()


@pytest.mark.parametrize("alpha", [0.25, 0.5])
def test_soft_labels_and_their_selection_are_equal(alpha):
    probs = draw_probs(1)
    soft, labels, distance = crst.label_soft(probs.astype(float), THRESHOLDS.astype(float), alpha)
    found = np.asarray(selection.soften(jnp.log(probs), THRESHOLDS, temperature=alpha))
    np.testing.assert_allclose(found, soft, rtol=2e-5, atol=1e-7)
    chosen = np.asarray(selection.choose_labels(probs, THRESHOLDS, temperature=alpha))
    is_clear = np.abs(distance) > 1e-5  # Rounding may decide the others either way.
    np.testing.assert_array_equal(chosen[is_clear], labels[is_clear])
    assert is_clear.mean() > 0.99
    assert 0.001 < (chosen == 255).mean() < 0.99


def test_a_probability_of_0_is_no_label_and_no_nan():
    probs = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
    for temperature in (0.0, 0.25):
        found = selection.choose_labels(probs, np.ones(2, np.float32), temperature=temperature)
        assert found[1] == 255
    np.testing.assert_array_equal(selection.choose_labels(probs, np.full(2, 0.9, np.float32))[0], 0)
