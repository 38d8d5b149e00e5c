"""Windows that slide over large images, against a mean of probabilities written with numpy."""

import itertools

import jax
import numpy as np
import pytest

from alp_jax.evaluation import predictor, windows
from alp_jax.evaluation.segmenter import load_segmenter
from tests.test_predict import count_compilations, make_image


def starts(side: int, window: int) -> list[int]:
    """Where windows begin on one axis: half a window apart, the last at the border."""
    step = max(1, window // 2)
    found = [start for start in range(0, side, step) if start + window <= side]
    if found[-1] + window < side:
        found.append(side - window)
    return found


def upsample(coarse: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation with aligned corners, one axis after the other: [*size, C]."""
    for axis in (0, 1):
        places = np.arange(size[axis]) * (coarse.shape[axis] - 1) / (size[axis] - 1)
        before = np.minimum(places.astype(int), coarse.shape[axis] - 2)
        share = (places - before).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        first, second = coarse.take(before, axis), coarse.take(before + 1, axis)
        coarse = (1 - share) * first + share * second
    return coarse


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def average(segmenter, image: np.ndarray) -> np.ndarray:
    """Mean of the probabilities of all windows: [H, W, C]."""
    height, width = image.shape[:2]
    size = segmenter.size
    after = [(0, max(0, side - there)) for side, there in zip(size, (height, width), strict=True)]
    image = np.pad(image, [*after, (0, 0)], mode="symmetric")
    (member,) = segmenter.ensemble.members
    total = np.zeros((*image.shape[:2], segmenter.label_set.num_classes))
    count = np.zeros((*image.shape[:2], 1))
    for top, left in itertools.product(*map(starts, image.shape[:2], size)):
        place = np.s_[top : top + size[0], left : left + size[1]]
        outputs, _ = member.segmenter.apply(
            member.params, member.model_state, image[place][None], train=False
        )
        total[place] += softmax(upsample(np.asarray(outputs.logits["main"][0]), size))
        count[place] += 1
    assert count.min() >= 1
    return (total / count)[:height, :width]


@pytest.fixture(scope="module")
def segmenter(saved_run):
    return load_segmenter(saved_run, proportions="windows", batch_size=4)


@pytest.mark.parametrize("size", [(33, 48), (32, 49), (75, 121), (20, 100), (90, 7), (48, 72)])
def test_overlapping_windows_are_averaged_at_full_resolution(segmenter, size):
    image = make_image(7, *size)
    (prediction,) = segmenter.predict([image], with_probabilities=True)
    expected = average(segmenter, image)
    np.testing.assert_allclose(prediction.probabilities, expected, atol=2e-5)
    logs = np.log(np.maximum(expected, 1e-30))
    entropy = -(expected * logs).sum(axis=-1) / np.log(expected.shape[-1])
    np.testing.assert_allclose(prediction.entropy, entropy, atol=2e-5)
    assert prediction.train_ids.shape == size
    first, second = np.sort(expected, axis=-1)[..., -1:-3:-1].transpose(2, 0, 1)
    clear = first - second > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(prediction.train_ids[clear], expected.argmax(axis=-1)[clear])
    assert len(np.unique(prediction.train_ids)) > 1


def test_an_image_of_the_networks_size_has_the_same_bits_as_without_windows(saved_run, segmenter):
    image = make_image(3, *segmenter.size)
    (windowed,) = segmenter.predict([image], with_probabilities=True)
    plain = load_segmenter(saved_run, batch_size=4)
    (stretched,) = plain.predict([image], with_probabilities=True)
    for name in ("train_ids", "entropy", "probabilities"):
        np.testing.assert_array_equal(getattr(windowed, name), getattr(stretched, name))


@pytest.mark.parametrize("size", [(1, 1), (20, 30), (32, 5), (8, 48)])
def test_a_smaller_image_is_mirrored_and_not_resized(segmenter, size):
    image = make_image(4, *size)
    fitted = segmenter.fit(image)
    assert fitted.content == size
    np.testing.assert_array_equal(fitted.pixels[: size[0], : size[1]], image)
    below = fitted.pixels[size[0] : 2 * size[0], : size[1]]
    np.testing.assert_array_equal(below, image[::-1][: len(below)])
    (prediction,) = segmenter.predict([image], with_probabilities=True)
    np.testing.assert_allclose(prediction.probabilities, average(segmenter, image), atol=2e-5)


def test_images_of_all_sizes_are_predicted_in_order_with_three_programs(saved_run):
    fresh = load_segmenter(saved_run, proportions="windows", batch_size=2)
    sizes = [(32, 48), (75, 121), (8, 8), (40, 40), (33, 100), (20, 20), (31, 47)]
    images = [make_image(seed, *size) for seed, size in enumerate(sizes)]
    found = []
    jax.clear_caches()
    assert count_compilations(lambda: found.extend(fresh.predict(images))) == 3
    for image, prediction in zip(images, found, strict=True):
        np.testing.assert_array_equal(prediction.image, image)
        (alone,) = fresh.predict([image])
        np.testing.assert_array_equal(prediction.train_ids, alone.train_ids)


def test_windows_of_averaged_predictions(saved_run):
    recipe = predictor.Recipe(flip=True)
    flipped = load_segmenter(saved_run, proportions="windows", recipe=recipe)
    image = make_image(9, 40, 60)
    (prediction,) = flipped.predict([image], with_probabilities=True)
    total, count = np.zeros((40, 60, 16)), np.zeros((40, 60, 1))
    for top, left in itertools.product((0, 8), (0, 12)):
        place = np.s_[top : top + 32, left : left + 48]
        logits = flipped.ensemble.predictor.predict(
            flipped.ensemble.variables, image[place][None], (32, 48)
        )
        total[place] += softmax(np.asarray(logits[0]))
        count[place] += 1
    np.testing.assert_allclose(prediction.probabilities, total / count, atol=2e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 5), (7, 4), (32, 48)])
def test_no_cell_has_more_windows_than_its_program_takes(size):
    """All sides of an image up to some, on each axis alone."""
    for window in size:
        cell = max(1, window // 2)
        slots = windows.count_slots(window)
        for side in range(window, 6 * window + 7):
            found = starts(side, window)
            assert {corner[0] for corner in predictor.find_corners(
                (side, 1), (window, 1), (cell, 1))} == set(found)  # fmt: skip
            for first in range(0, side, cell):
                there = [s for s in found if first - window < s < first + cell]
                assert 1 <= len(there) <= slots
