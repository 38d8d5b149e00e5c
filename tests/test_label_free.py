"""Criteria without labels, against loops in numpy and what they must be at their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.evaluation import label_free


def density_by_loops(logits: np.ndarray) -> float:
    """Of one image, [H, W, C], all of whose points are on the grid."""
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    points = probs.reshape(-1, logits.shape[-1])
    entropies = []
    for i, point in enumerate(points):
        others = [
            point @ other / np.linalg.norm(point) / np.linalg.norm(other)
            for j, other in enumerate(points)
            if j != i
        ]
        weights = np.exp(np.array(others) / 0.05)
        weights /= weights.sum()
        entropies.append(-(weights * np.log(weights)).sum())
    return float(np.mean(entropies))


def test_soft_neighbourhood_density_equals_loops():
    logits = np.random.default_rng(0).normal(0, 2, (3, 5, 7, 4)).astype(np.float32)
    found = label_free.soft_neighbourhood_density(jnp.asarray(logits))
    expected = [density_by_loops(image.astype(np.float64)) for image in logits]
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_only_the_points_of_the_grid_count():
    rng = np.random.default_rng(1)
    small = rng.normal(size=(1, *label_free.GRID, 3)).astype(np.float32)
    large = rng.normal(size=(1, 31, 63, 3)).astype(np.float32)
    large[:, ::2, ::2] = small  # 31 = 2 * 16 - 1: the grid is every other pixel.
    np.testing.assert_allclose(
        label_free.soft_neighbourhood_density(large),
        label_free.soft_neighbourhood_density(small),
        rtol=1e-6,
    )


def test_equal_predictions_are_all_neighbours():
    logits = jnp.broadcast_to(jnp.array([3.0, 0.0, 0.0]), (2, 4, 4, 3))
    found = label_free.soft_neighbourhood_density(logits)
    np.testing.assert_allclose(found, np.log(15), rtol=1e-6)


def test_two_sure_classes_are_two_neighbourhoods():
    logits = 100.0 * jax.nn.one_hot(jnp.arange(16).reshape(1, 4, 4) % 2, 3)
    # Seven of the same class; the eight others are exp(-20) as near.
    found = label_free.soft_neighbourhood_density(logits)
    np.testing.assert_allclose(found, np.log(7), rtol=1e-5)


@pytest.mark.parametrize(
    ("mean_probs", "mean_entropy", "expected"),
    [
        ([0.25, 0.25, 0.25, 0.25], 0.0, 1.0),  # Sure of each pixel, all classes.
        ([0.25, 0.25, 0.25, 0.25], 1.0, 0.0),  # Sure of nothing.
        ([1.0, 0.0, 0.0, 0.0], 0.0, 0.0),  # The same class everywhere.
        ([0.5, 0.5, 0.0, 0.0], 0.25, 0.25),  # log 2 / log 4 - 1/4
    ],
)
def test_information_maximisation_at_its_limits(mean_probs, mean_entropy, expected):
    found = label_free.information_maximisation(np.array(mean_probs), mean_entropy)
    assert found == pytest.approx(expected, abs=1e-12)
