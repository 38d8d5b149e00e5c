"""Averaged predictions against means of probabilities computed by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.errors import UserError
from alp_jax.evaluation.predictor import Predictor, Recipe
from alp_jax.models.segmenter import Outputs
from tests import reference

SIZE = (12, 16)
NUM_CLASSES = 3


class Fake:
    """A network of stride 2 whose logits depend on places, neighbours and sizes."""

    def apply(self, params, model_state, images, *, train):
        del model_state, train
        images = images.astype(jnp.float32) / 255
        coarse = images[:, ::2, ::2] + 0.5 * images[:, 1::2, 1::2] ** 2
        logits = jnp.einsum("bhwc,cd->bhwd", coarse, params)
        ramp = jnp.linspace(0, 1, logits.shape[2])[None, None, :, None]
        return Outputs({"main": 3 * logits + ramp * jnp.arange(NUM_CLASSES)}, ()), {}

    def predict(self, outputs):
        return outputs.logits["main"]


@functools.cache
def create_images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype(np.uint8)


def create_variables(seed: int):
    return np.random.default_rng(seed).normal(size=(3, NUM_CLASSES)).astype(np.float32), {}


def predict(recipe=Recipe(), seeds=(1,), weights=(), size=(24, 32), images=None):  # noqa: B008
    predictor = Predictor(tuple(Fake() for _ in seeds), SIZE, recipe, weights)
    variables = [create_variables(seed) for seed in seeds]
    images = create_images() if images is None else images
    return np.asarray(jax.nn.softmax(predictor.predict(variables, images, size)))


def plain_by_hand(images: np.ndarray, size=(24, 32), seed: int = 1) -> np.ndarray:
    outputs, _ = Fake().apply(*create_variables(seed), jnp.asarray(images), train=False)
    logits = reference.upsample(np.asarray(outputs.logits["main"], np.float64), size)
    exponents = np.exp(logits - logits.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def test_a_plain_prediction_is_one_pass():
    np.testing.assert_allclose(predict(), plain_by_hand(create_images()), atol=1e-5)


def test_flip_averages_with_the_mirrored_image():
    images = create_images()
    mirrored = plain_by_hand(images[:, :, ::-1])[:, :, ::-1]
    expected = (plain_by_hand(images) + mirrored) / 2
    np.testing.assert_allclose(predict(Recipe(flip=True)), expected, atol=1e-5)


def test_an_ensemble_is_the_weighted_mean_of_probabilities():
    images = create_images()
    first, second = (plain_by_hand(images, seed=seed) for seed in (1, 2))
    np.testing.assert_allclose(predict(seeds=(1, 2)), (first + second) / 2, atol=1e-5)
    actual = predict(seeds=(1, 2), weights=(3.0, 1.0))
    np.testing.assert_allclose(actual, 0.75 * first + 0.25 * second, atol=1e-5)
    np.testing.assert_allclose(predict(seeds=(1, 1)), first, atol=1e-5)


def test_scales_average_predictions_of_resized_images():
    images = create_images()
    small = np.asarray(jax.image.resize(images.astype(np.float32), (2, 6, 8, 3), "linear"))
    expected = (plain_by_hand(images) + plain_by_hand(small)) / 2
    np.testing.assert_allclose(predict(Recipe(scales=(1.0, 0.5))), expected, atol=1e-5)


def test_windows_side_by_side_are_predictions_of_their_own():
    images = create_images()
    recipe = Recipe(window=(6, 8), stride=(6, 8))
    actual = predict(recipe, size=SIZE)
    for top in (0, 6):
        for left in (0, 8):
            window = images[:, top : top + 6, left : left + 8]
            np.testing.assert_allclose(
                actual[:, top : top + 6, left : left + 8],
                plain_by_hand(window, (6, 8)),
                atol=1e-5,
            )


@pytest.mark.parametrize("flip", [False, True])
def test_overlapping_windows_are_averaged_where_they_overlap(flip):
    images = create_images()
    total, count = np.zeros((2, *SIZE, NUM_CLASSES)), np.zeros((1, *SIZE, 1))
    fed = images[:, :, ::-1] if flip else images
    for top in (0, 4):
        for left in (0, 5, 6):  # The last ends at the border.
            place = np.s_[:, top : top + 8, left : left + 10]
            total[place] += plain_by_hand(fed[place], (8, 10))
            count[place] += 1
    expected = total / count
    if flip:
        mirrored = expected[:, :, ::-1]
        straight = predict(Recipe(window=(8, 10), stride=(5, 5)), size=SIZE)
        expected = (straight + mirrored) / 2
    actual = predict(Recipe(flip=flip, window=(8, 10), stride=(5, 5)), size=SIZE)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_every_pixel_of_any_output_size_is_covered():
    for size in ((1, 1), (7, 50), (100, 3)):
        probabilities = predict(Recipe(window=(6, 8), stride=(6, 8)), size=size)
        np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)


def test_a_window_larger_than_the_image_is_the_whole_image():
    actual = predict(Recipe(window=(99, 99)))
    np.testing.assert_allclose(actual, plain_by_hand(create_images()), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scales": ()}, "--scales is '': expected numbers above 0"),
        ({"scales": (0.0,)}, "--scales is '0': expected numbers above 0"),
        ({"scales": (float("nan"),)}, "--scales is 'nan'"),
        ({"window": (3,)}, "--window is '3': expected HEIGHT,WIDTH"),
        ({"window": (0, 4)}, "--window is '0,4'"),
        ({"stride": (2, 2)}, "--stride is given without --window"),
        ({"window": (4, 4), "stride": (4, 5)}, "--stride is 4,5: expected at most the window"),
    ],
)
def test_wrong_recipes_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Recipe(**fields)


def test_recipes_are_named_in_files():
    recipe = Recipe(flip=True, scales=(0.9, 1.0), window=(4, 6))
    assert recipe.suffix() == "_flip_scales0.9-1_window4x6"
    assert recipe.describe() == {
        "flip": True, "scales": [0.9, 1.0], "window": [4, 6], "stride": [2, 3],
    }  # fmt: skip
    assert Recipe().suffix() == ""
