"""Thresholds from histograms are those of sorted pools, to the width of a bin."""

import numpy as np
import pytest

from alp_jax.self_training import thresholds
from alp_jax.self_training.settings import RoundsSettings
from tests.self_training import crst

NUM_CLASSES, STRIDE = 5, 4


def draw_images(seed: int, sharpness: float) -> list[np.ndarray]:
    """Probabilities of three images; class 4 is never predicted, class 3 in a few pixels."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.standard_normal((3, 40, 50, NUM_CLASSES))
    logits[..., 4] = -50
    logits[..., 3] -= sharpness * 2.5
    exps = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return list((exps / exps.sum(axis=-1, keepdims=True)).astype(np.float32))


def fill(images) -> thresholds.ConfidenceHistogram:
    histogram = thresholds.ConfidenceHistogram(NUM_CLASSES, stride=STRIDE)
    for probs in images:
        histogram.add(probs.max(axis=-1), probs.argmax(axis=-1).astype(np.uint8))
    return histogram


@pytest.mark.parametrize("sharpness", [0.5, 3.0, 20.0])
@pytest.mark.parametrize("portion", [0.2, 0.25, 0.5, 1.0, 1e-5])
def test_they_are_those_of_sorted_pools(sharpness, portion):
    images = draw_images(0, sharpness)
    pools, sizes = crst.pool_confidences(images, NUM_CLASSES, STRIDE)
    histogram = fill(images)
    np.testing.assert_array_equal(histogram.pixels, sizes)
    expected = crst.find_thresholds(pools, portion)
    found = histogram.find_thresholds(portion, "class")
    assert found.dtype == np.float32
    below = expected.astype(float) - found
    assert (below >= 0).all()
    assert (below <= 2.0**-12 * np.minimum(expected, 1 - expected.astype(float))).all()
    is_sure = expected > 1 - 2.0**-11
    np.testing.assert_array_equal(found[is_sure], expected[is_sure])
    if sharpness == 20.0 and portion == 0.2:
        assert is_sure[:3].all()  # So that the line above compares something.
    assert found[4] == 1


def test_no_pixel_that_published_code_labels_is_lost():
    images = draw_images(1, 2.0)
    pools, _ = crst.pool_confidences(images, NUM_CLASSES, STRIDE)
    for k, pool in pools.items():
        found = fill(images).find_thresholds(0.3, "class")[k]
        exact = crst.find_thresholds(pools, 0.3)[k]
        kept, published = (sum(value >= limit for value in pool) for limit in (found, exact))
        assert published <= kept <= published + max(2, 0.02 * len(pool))


def test_one_threshold_for_all_is_that_of_one_pool():
    images = draw_images(2, 2.0)
    pools, _ = crst.pool_confidences(images, NUM_CLASSES, STRIDE)
    expected = crst.find_global_threshold(pools, 0.2)
    found = fill(images).find_thresholds(0.2, "global")
    assert np.unique(found).size == 1
    assert 0 <= float(expected) - float(found[0]) <= 2.0**-12


def test_bins_are_in_order_and_begin_at_their_least_value():
    rng = np.random.default_rng(3)
    values = np.concatenate(
        [
            np.float32(1) - np.arange(5000, dtype=np.float32) * np.float32(2.0**-24),
            rng.uniform(0.4, 0.6, 5000).astype(np.float32),
            np.exp(rng.uniform(-27, 0, 5000)).astype(np.float32),
            np.array([0.5, 1.0, 2.0**-40], np.float32),
        ]
    )
    values.sort()
    bins = thresholds.find_bins(values)
    assert (np.diff(bins) >= 0).all()
    assert bins[0] == 0
    assert bins[-1] == thresholds.NUM_BINS - 1
    for value, index in list(zip(values, bins, strict=True))[::20]:
        least = thresholds.find_least(int(index))
        assert least <= value
        assert thresholds.find_bins(np.array([least], np.float32))[0] == index
        below = np.nextafter(least, np.float32(0))
        if index:
            assert thresholds.find_bins(np.array([below], np.float32))[0] < index
    # Rounding may carry a probability a little above 1; a prior may make one tiny.
    outside = thresholds.find_bins(np.array([1 + 1e-6, 1e-30], np.float32))
    np.testing.assert_array_equal(outside, [thresholds.NUM_BINS - 1, 0])


def test_rare_classes_are_those_below_a_share_of_all_pixels():
    histogram = thresholds.ConfidenceHistogram(3, stride=STRIDE)
    prediction = np.zeros((100, 100), np.uint8)
    prediction[0, :9] = 1  # 9 of 10,000 pixels; no pixel of class 2.
    histogram.add(np.full((100, 100), 0.9, np.float32), prediction)
    assert histogram.find_rare(1e-3) == (1, 2)
    assert histogram.find_rare(9e-4) == (2,)


def test_portions_grow_by_steps_to_the_most():
    settings = RoundsSettings()
    portions = [settings.find_portion(number) for number in range(8)]
    assert portions == pytest.approx([0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.5])
    sources = [settings.find_source_portion(number) for number in (0, 1, 2, 20)]
    assert sources == pytest.approx([0.03, 0.0325, 0.035, 0.06])
