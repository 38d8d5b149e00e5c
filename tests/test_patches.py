import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.objective import patches
from tests import reference

MAPS = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)


def test_slices_equal_numpy_slices():
    offsets = np.array([[[0, 0], [2, 3]], [[1, 4], [3, 0]]], np.int32)
    sliced = patches.slice_patches(jnp.asarray(MAPS), jnp.asarray(offsets), (2, 3))
    expected = [MAPS[b, y : y + 2, x : x + 3] for b in range(2) for y, x in offsets[b]]
    np.testing.assert_array_equal(sliced, expected)
    labels = MAPS[..., 0]
    sliced = patches.slice_patches(jnp.asarray(labels), jnp.asarray(offsets), (2, 3))
    np.testing.assert_array_equal(sliced, np.array(expected)[..., 0])


def test_offsets_reach_every_place_equally_often():
    offsets = patches.sample_offsets(jax.random.key(0), 500, (6, 5), (4, 4), 8)
    counts = np.zeros((3, 2), int)
    np.add.at(counts, tuple(np.asarray(offsets).reshape(-1, 2).T), 1)
    assert counts.sum() == 4000
    # Each of the 6 places is expected 667 times; five standard deviations are 118.
    assert np.all(np.abs(counts - 4000 / 6) < 118), counts


def test_offsets_are_independent_of_each_other():
    offsets = np.asarray(patches.sample_offsets(jax.random.key(0), 4, (64, 64), (32, 32), 3))
    assert len(np.unique(offsets.reshape(-1, 2), axis=0)) > 10


def test_a_patch_of_the_size_of_the_map_is_the_map():
    offsets = patches.sample_offsets(jax.random.key(0), 2, (5, 7), (5, 7), 1)
    np.testing.assert_array_equal(offsets, np.zeros((2, 1, 2)))
    sliced = patches.slice_patches(jnp.asarray(MAPS), offsets, (5, 7))
    np.testing.assert_array_equal(sliced, MAPS)


def test_a_patch_larger_than_the_map_is_refused():
    with pytest.raises(ValueError, match="6x4 does not fit in a map of 5x7"):
        patches.sample_offsets(jax.random.key(0), 1, (5, 7), (6, 4), 1)


@pytest.mark.parametrize("size", [(17, 25), (5, 7), (9, 1), (3, 4)])
def test_upsample_equals_reference(size):
    upsampled = patches.upsample(jnp.asarray(MAPS), size)
    np.testing.assert_allclose(upsampled, reference.upsample(MAPS, size), atol=1e-6)


def test_upsample_keeps_corners_and_ramps():
    upsampled = np.asarray(patches.upsample(jnp.asarray(MAPS), (64, 128)))
    np.testing.assert_array_equal(
        upsampled[:, [0, 0, -1, -1], [0, -1, 0, -1]], MAPS[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    )
    ramp = jnp.arange(5.0)[None, :, None, None] * jnp.ones((1, 5, 2, 1))
    np.testing.assert_allclose(
        patches.upsample(ramp, (33, 2))[0, :, 0, 0], np.linspace(0, 4, 33), atol=1e-6
    )


def test_upsampling_a_patch_equals_slicing_the_upsampled_whole():
    offsets = patches.sample_offsets(jax.random.key(3), 2, (40, 56), (16, 24), 4)
    whole = patches.upsample(jnp.asarray(MAPS), (40, 56))
    expected = patches.slice_patches(whole, offsets, (16, 24))
    actual = patches.upsample_patches(jnp.asarray(MAPS), offsets, (40, 56), (16, 24))
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("top", [0, 11, 24])
@pytest.mark.parametrize("left", [0, 17, 32])
def test_gradients_through_an_upsampled_patch_are_those_through_the_whole(top, left):
    """In the corners, at the edges and inside."""
    maps = jnp.asarray(MAPS)
    offsets = jnp.full((len(MAPS), 1, 2), jnp.array([top, left]))

    def of_patch(maps):
        return patches.upsample_patches(maps, offsets, (40, 56), (16, 24))

    def of_whole(maps):
        return patches.slice_patches(patches.upsample(maps, (40, 56)), offsets, (16, 24))

    actual, transpose = jax.vjp(of_patch, maps)
    expected, transpose_whole = jax.vjp(of_whole, maps)
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    cotangent = jax.random.normal(jax.random.key(0), actual.shape)
    np.testing.assert_allclose(transpose(cotangent)[0], transpose_whole(cotangent)[0], atol=1e-5)


def test_interpolation_of_one_sample_is_constant():
    np.testing.assert_array_equal(patches.interpolation_matrix(1, 4), np.ones((4, 1)))
