"""The rendered images and label maps of toy_cities."""

import dataclasses
import json
import math

import numpy as np
import pytest

from alp_jax.data.labels import CITYSCAPES_TABLE, load_label_set
from data_prep.toy_cities import camera as camera_lib
from data_prep.toy_cities.appearance import sample_appearance
from data_prep.toy_cities.camera import Camera, Corridor, sample_camera
from data_prep.toy_cities.draws import Draws
from data_prep.toy_cities.materials import Material, colours
from data_prep.toy_cities.render import Domain, Settings, Split, render
from data_prep.toy_cities.scene import TABLE
from tests.data_prep import toy_cities_goldens

LABEL_SET = load_label_set("cityscapes_16")
CORRIDOR = Corridor(half_road=5.0, left_sidewalk=3.0, right_sidewalk=4.0)
NUM_STATISTICS = 40


@pytest.fixture(scope="module")
def label_maps():
    """[2, N, 64, 128] train ids of the first training images of both domains."""
    maps = [
        [render(Settings(), domain, Split.TRAIN, i)[1] for i in range(NUM_STATISTICS)]
        for domain in Domain
    ]
    return LABEL_SET.map_table(CITYSCAPES_TABLE)[np.array(maps)]


def test_pixels_equal_the_goldens():
    expected = json.loads(toy_cities_goldens.FILE.read_text())
    assert toy_cities_goldens.compute_hashes() == expected, (
        "The images changed. If that is meant, bump ToyCities.VERSION and run "
        "`python -m tests.data_prep.toy_cities_goldens`."
    )


def test_goldens_are_all_different():
    hashes = json.loads(toy_cities_goldens.FILE.read_text())
    assert len(hashes) == len(toy_cities_goldens.CASES) == 8
    assert len({h for pair in hashes.values() for h in pair}) == 16


@pytest.mark.parametrize("domain", Domain)
@pytest.mark.parametrize(("height", "width"), [(64, 128), (33, 50), (96, 192)])
def test_shapes_and_types(domain, height, width):
    settings = Settings(height=height, width=width)
    image, labels = render(settings, domain, Split.TEST, 0)
    assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((height, width), np.uint8)
    assert LABEL_SET.map_table(CITYSCAPES_TABLE)[labels].max() < LABEL_SET.num_classes
    assert image.std() > 10


def test_every_pixel_has_one_of_the_16_classes(label_maps):
    assert label_maps.max() < LABEL_SET.num_classes


@pytest.mark.parametrize("domain", Domain)
def test_every_class_is_common_enough_to_learn(label_maps, domain):
    maps = label_maps[domain]
    shares = np.bincount(maps.ravel(), minlength=16) / maps.size
    images = np.array([np.bincount(m.ravel(), minlength=16) >= 9 for m in maps]).mean(axis=0)
    rare = {
        n: (s, i)
        for n, s, i in zip(LABEL_SET.names, shares, images, strict=True)
        if s < 0.005 or i < 0.3
    }
    assert not rare


def test_no_view_is_a_bare_wall(label_maps):
    road = LABEL_SET.names.index("road")
    for maps in label_maps.reshape(-1, 64 * 128):
        counts = np.bincount(maps, minlength=16)
        counts[road] = 0
        assert counts.max() < 0.75 * maps.size


def test_layout_differs_between_the_cities(label_maps):
    """Road is where a dashcam has it: at the bottom, in the middle; source views are looser."""
    road = (label_maps == LABEL_SET.names.index("road")).mean(axis=1)
    bottom_middle = road[:, 50:, 40:88].mean(axis=(1, 2))
    sky = (label_maps == LABEL_SET.names.index("sky")).mean(axis=1)
    assert bottom_middle[Domain.TARGET] > bottom_middle[Domain.SOURCE] + 0.1
    assert sky[Domain.TARGET, 50:].max() == 0
    assert np.abs(road[0] - road[1]).mean() > 0.1


def test_images_depend_on_every_part_of_the_key():
    base = render(Settings(), Domain.TARGET, Split.TRAIN, 5)[0]
    others = [
        render(Settings(seed=1), Domain.TARGET, Split.TRAIN, 5)[0],
        render(Settings(), Domain.SOURCE, Split.TRAIN, 5)[0],
        render(Settings(), Domain.TARGET, Split.VALIDATION, 5)[0],
        render(Settings(), Domain.TARGET, Split.TRAIN, 6)[0],
    ]
    assert all((other != base).mean() > 0.5 for other in others)
    np.testing.assert_array_equal(render(Settings(), Domain.TARGET, Split.TRAIN, 5)[0], base)


def test_appearance_shift_changes_target_colours_only():
    low, high = Settings(appearance_shift=0.0), Settings(appearance_shift=1.0)
    for index in range(3):
        image_low, labels_low = render(low, Domain.TARGET, Split.TEST, index)
        image_high, labels_high = render(high, Domain.TARGET, Split.TEST, index)
        np.testing.assert_array_equal(labels_low, labels_high)
        assert np.abs(image_low.astype(int) - image_high).mean() > 10


def test_camera_shift_changes_the_target_view():
    low, high = Settings(camera_shift=0.0), Settings(camera_shift=1.0)
    changed = [
        (
            render(low, Domain.TARGET, Split.TEST, i)[1]
            != render(high, Domain.TARGET, Split.TEST, i)[1]
        ).mean()
        for i in range(3)
    ]
    assert min(changed) > 0.2


def test_source_ignores_both_shifts():
    plain = render(Settings(), Domain.SOURCE, Split.TRAIN, 2)
    shifted = render(
        Settings(camera_shift=0.2, appearance_shift=0.1), Domain.SOURCE, Split.TRAIN, 2
    )
    for a, b in zip(plain, shifted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_appearance_at_zero_shift_is_a_source_look():
    look = sample_appearance(Draws(1), 0.0)
    assert look.blur_tap == 0
    assert look.noise_sigma == 1.5
    assert look.contrast == 1
    assert look.gradient == (0, 0)
    assert all(shadow[-1] == 1 for shadow in look.shadows)
    assert 250 <= look.haze_metres <= 600


def test_appearance_quantities_are_blends():
    looks = [sample_appearance(Draws(1), shift) for shift in (0.0, 0.25, 1.0)]
    for field in ("haze_metres", "contrast", "texture", "noise_sigma"):
        low, blend, high = (getattr(look, field) for look in looks)
        assert blend == pytest.approx(0.75 * low + 0.25 * high)
        assert low != high


def test_every_material_has_colours_in_range():
    material = np.repeat([int(m) for m in Material], 20)
    hue = np.tile(np.arange(20) / 20, len(Material))
    for shift in (0.0, 0.6, 1.0):
        rgb = colours(material, hue, hue[::-1], shift)
        assert rgb.min() > 10  # no ramp is missing
        assert rgb.max() <= 255


def test_models_are_convex_and_plane():
    """The painter fills convex polygons only."""
    for points, count in zip(TABLE.points, TABLE.num_points, strict=True):
        corners = points[:count]
        edges = np.roll(corners, -1, axis=0) - corners
        turns = np.cross(edges, np.roll(edges, -1, axis=0))
        normal = turns.sum(axis=0)
        assert (turns @ normal > 0).all()
        np.testing.assert_allclose((corners - corners[0]) @ normal, 0, atol=1e-9)


def test_dashcams_are_dashcams():
    for seed in range(50):
        camera = sample_camera(Draws(seed), CORRIDOR, 1.0)
        assert 1.3 <= camera.x <= 2.2
        assert 1.35 <= camera.height <= 1.55
        assert 1.5 <= camera.pitch <= 3
        assert abs(camera.yaw) <= 2.5
        assert camera.roll == 0
        assert 58 <= camera.fov <= 62


def test_source_cameras_stand_in_the_street_and_look_everywhere():
    cameras = [sample_camera(Draws(seed), CORRIDOR, 0.0) for seed in range(300)]
    x, height, pitch, yaw = (
        np.array([getattr(camera, name) for camera in cameras])
        for name in ("x", "height", "pitch", "yaw")
    )
    assert x.min() > CORRIDOR.left + 0.5
    assert x.max() < CORRIDOR.right - 0.5
    along = np.abs(yaw) < 24
    assert 0.25 < along.mean() < 0.6
    assert 0.2 < (along & (pitch < 15)).mean() < 0.35  # forward as well as level
    assert (height > 4.5).mean() > 0.35
    dashcams = (height < 1.6) & (np.abs(yaw) < 3) & (np.abs(pitch) < 4)
    assert dashcams.mean() < 0.02


def test_camera_shift_blends_each_camera():
    low, half, high = (sample_camera(Draws(9), CORRIDOR, shift) for shift in (0.0, 0.5, 1.0))
    for field in dataclasses.fields(Camera):
        ends = getattr(low, field.name) + getattr(high, field.name)
        assert getattr(half, field.name) == pytest.approx(ends / 2)


def test_camera_axes_are_orthonormal():
    axes = Camera(0, 1, pitch=20, yaw=-50, roll=6, fov=60).axes()
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-8)
    assert axes[1, 1] > 0.9  # up is up
    assert axes[2, 0] < 0  # negative yaw looks left
    assert axes[2, 1] < 0  # positive pitch looks down


def test_projection_by_hand():
    """Level camera 2 m above the ground, 90 degrees wide: focal length is half the width."""
    camera = Camera(x=1.0, height=2.0, pitch=0, yaw=0, roll=0, fov=90)
    points = np.array([[1.0, 2.0, 10.0], [1.0, 0.0, 10.0], [6.0, 2.0, 10.0]])
    seen = camera_lib.to_camera_frame(camera, points)
    pixels = camera_lib.project(seen, camera.focal(100), 60, 100)
    np.testing.assert_allclose(pixels, [[50, 30], [50, 40], [75, 30]], atol=1e-6)


def test_near_plane_cuts_a_triangle_into_a_quadrilateral():
    near = camera_lib.NEAR_METRES
    triangle = np.array([[0.0, 0.0, near - 1], [0.0, 0.0, near + 1], [2.0, 0.0, near + 1]])
    clipped = camera_lib.clip_to_near_plane(triangle)
    expected = {(0.0, 0.0, near), (0.0, 0.0, near + 1), (2.0, 0.0, near + 1), (1.0, 0.0, near)}
    assert {tuple(point) for point in clipped.tolist()} == expected
    behind = triangle - [0, 0, 5]
    assert camera_lib.clip_to_near_plane(behind).shape == (0, 3)


def test_draws_follow_their_distributions():
    draws = Draws(3, 1)
    n = 4000
    picks = np.bincount([draws.pick((0.2, 0.5, 0.3)) for _ in range(n)], minlength=3) / n
    np.testing.assert_allclose(picks, [0.2, 0.5, 0.3], atol=0.03)
    integers = {draws.integer(2, 5) for _ in range(200)}
    assert integers == {2, 3, 4, 5}
    values = [draws.uniform(-1, 3) for _ in range(n)]
    assert -1 <= min(values) < -0.95
    assert 2.95 < max(values) < 3
    assert math.isclose(sum(draws.chance(0.1) for _ in range(n)) / n, 0.1, abs_tol=0.02)
    assert {draws.sign() for _ in range(50)} == {-1, 1}
    noise = draws.bytes(n)
    assert (noise.shape, noise.dtype) == ((n,), np.uint8)
    assert abs(noise.mean() - 127.5) < 5


def test_draws_of_another_key_differ():
    assert Draws(0, 1).unit() != Draws(1, 0).unit()
    assert Draws(0, 1).unit() == Draws(0, 1).unit()
