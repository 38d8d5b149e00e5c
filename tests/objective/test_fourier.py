"""FDA's exchange of low frequencies, against the published code restated in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.data.samples import Sample
from alp_jax.objective.types import Surroundings
from alp_jax.objective.views.fourier import Fourier, exchange_amplitudes
from tests import torch_terms
from tests.refusals import refusal


def draw(*shape):
    """Images whose neighbouring pixels are alike, as those of scenes are."""
    rng = np.random.default_rng(sum(shape))
    return np.cumsum(rng.uniform(-40, 40, (*shape, 3)), axis=2) + rng.uniform(0, 255, (*shape, 3))


def restate(source, target, beta):
    moved = [np.moveaxis(images, -1, 1) for images in (source, target)]
    each = [torch_terms.exchange_amplitudes(*pair, beta) for pair in zip(*moved, strict=True)]
    return np.moveaxis(np.stack(each), 1, -1)


@pytest.mark.parametrize("size", [(12, 20), (13, 20), (20, 13), (11, 15)])
@pytest.mark.parametrize("beta", [0.01, 0.09, 0.45])
def test_images_are_those_of_published_code(size, beta):
    source, target = draw(2, *size), draw(2, *size)[:, ::-1] * 0.5
    expected = restate(source, target, beta)
    half = int(beta * min(size))
    with jax.enable_x64(True):
        found = exchange_amplitudes(jnp.asarray(source), jnp.asarray(target), half)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    assert np.abs(expected - source).max() > 1
    single = [jnp.asarray(images, jnp.float32) for images in (source, target)]
    found = exchange_amplitudes(*single, half)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_target_of_another_size_is_as_if_it_was_resized_by_its_fourier_series():
    source, target = draw(2, 12, 20), draw(2, 17, 15)
    resized = [
        torch_terms.resize_by_fourier_series(t, (12, 20)) for t in np.moveaxis(target, -1, 1)
    ]
    expected = restate(source, np.moveaxis(np.stack(resized), 1, -1), 0.2)
    with jax.enable_x64(True):
        found = exchange_amplitudes(jnp.asarray(source), jnp.asarray(target), 2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_frequency_0_alone_exchanges_the_mean_colours():
    source = np.full((1, 8, 8, 3), (10, 20, 30), np.uint8)
    target = np.full((1, 4, 6, 3), (200, 100, 0), np.uint8)
    batch = {"source": Sample(source, np.ones((1, 8, 8), np.uint8)), "target": Sample(target)}
    found = Fourier(name="source", beta=0.0).make(batch, jax.random.key(0))
    np.testing.assert_allclose(
        found.images, np.broadcast_to([200.0, 100, 0], source.shape), atol=1e-4
    )
    assert found.labels is batch["source"].labels


def test_a_square_beyond_the_highest_frequency_is_refused():
    def describe(beta, target):
        sizes = {"source": (20, 30), "target": target}
        found = Surroundings(sizes, ("main",), frozenset({"source"}))
        return Fourier(beta=beta).describe("config.views.x", found)

    assert describe(0.49, (20, 30)) == ((20, 30), True)
    assert describe(0.25, (11, 30)) == ((20, 30), True)
    assert refusal(lambda: describe(0.25, (10, 30))) == (
        "config.views.x.beta is 0.25: expected a square of 11x11 frequencies (side 2 floor(beta "
        "20) + 1) of at most 10, the shortest side of both domains."
    )
