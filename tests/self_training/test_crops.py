"""Crops are those of CRST's published code, for the same draws."""

import dataclasses

import numpy as np
import pytest

from alp_jax.self_training import crops
from alp_jax.self_training.settings import RoundsSettings
from tests.self_training import crst

SETTINGS = RoundsSettings(crop_size=(16, 24))
FILL = (1, 2, 3)


def draw_pair(seed: int, size=(20, 30)):
    rng = np.random.default_rng(seed)
    image = rng.integers(10, 256, (*size, 3)).astype(np.uint8)
    return image, rng.integers(0, 5, size).astype(np.uint8)


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.0, 1.3, 1.5])
def test_resizing_is_opencvs(factor):
    image, label = draw_pair(0, (11, 14))
    found_image, found_label = crops.scale_pair(image, label, factor)
    np.testing.assert_array_equal(found_label, crst.scale_nearest(label, factor))
    # OpenCV computes 8-bit images with whole numbers.
    np.testing.assert_allclose(found_image, crst.scale_linear(image, factor), atol=1.0)


def test_factors_are_tenths_from_the_least_to_the_largest():
    rng = np.random.default_rng(0)
    drawn = {round(crops.draw_scale((0.5, 1.5), rng), 6) for _ in range(500)}
    assert drawn == {round(0.5 + tenth / 10, 6) for tenth in range(11)}
    assert crops.draw_scale((0.8, 0.8), rng) == 0.8


def test_small_images_are_padded_below_and_on_the_right():
    image, label = draw_pair(1, (10, 30))
    padded, padded_label = crops.pad_pair(image, label, (16, 24), FILL)
    assert padded.shape == (16, 30, 3)
    np.testing.assert_array_equal(padded[:10], image)
    assert (padded[10:] == FILL).all()
    np.testing.assert_array_equal(padded_label[:10], label)
    assert (padded_label[10:] == 255).all()


def test_a_mined_crop_is_where_published_code_lays_it():
    for row in range(20):
        for column in range(30):
            expected = crst.find_corner(row, 20, 16), crst.find_corner(column, 30, 24)
            assert crops.center_crop(row, column, (20, 30), (16, 24)) == expected
    # Odd sides: inside the image, too.
    assert crops.center_crop(19, 29, (20, 30), (15, 23)) == (5, 7)


def apply(seed: int, mined=(), **fields):
    """Crops an image whose pixels tell their place; class 4 is in one pixel."""
    rows, columns = np.indices((20, 30)).astype(np.uint8)
    label = np.zeros((20, 30), np.uint8)
    label[18, 2] = 4
    image = np.stack([rows, columns, label], axis=-1) + np.uint8(10)
    cropping = crops.Cropping(dataclasses.replace(SETTINGS, **fields), FILL)
    return cropping.apply(image, label, np.random.default_rng(seed), mined=mined)


def test_crops_around_a_rare_class_hold_it():
    alone = {"scale_range": (1.0, 1.0), "mining_probability": 1.0}
    for seed in range(20):
        _, label = apply(seed, (3, 4), **alone)
        assert (label == 4).sum() == 1
    held = [(apply(seed, (3,), **alone)[1] == 4).any() for seed in range(40)]
    assert not all(held)  # Of a class that the image lacks, none is laid anywhere.
    never = [
        (apply(s, (4,), **alone | {"mining_probability": 0.0})[1] == 4).any() for s in range(40)
    ]
    assert never == held


def test_image_and_label_are_cut_alike_and_mirrored_as_often_as_asked():
    mirrored = 0
    for seed in range(60):
        image, label = apply(seed, scale_range=(1.0, 1.0))
        assert image.shape == (16, 24, 3)
        np.testing.assert_array_equal(image[..., 2], label + 10)
        mirrored += int(image[0, 0, 1]) > int(image[0, 1, 1])
    assert 15 < mirrored < 45
    for seed in range(20):
        image, _ = apply(seed, scale_range=(1.0, 1.0), mirror_probability=0.0)
        assert image[0, 0, 1] < image[0, 1, 1]


def test_all_positions_occur():
    corners = {
        tuple(apply(seed, scale_range=(1.0, 1.0), mirror_probability=0.0)[0][0, 0, :2].tolist())
        for seed in range(400)
    }
    assert corners == {(10 + row, 10 + column) for row in range(5) for column in range(7)}


def test_every_scale_gives_the_size_of_crops():
    for seed in range(60):
        image, label = apply(seed, (4,))
        assert image.shape == (16, 24, 3)
        assert label.shape == (16, 24)
