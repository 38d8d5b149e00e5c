"""Renders one image and its label map.

Synopsis:

  settings = Settings(seed=0, height=64, width=128, camera_shift=1.0, appearance_shift=0.6)
  image, labels = render(settings, Domain.TARGET, Split.TRAIN, 12)

Image i of a split is a function of (settings, domain, split, i) alone.
"""

import dataclasses
import enum

import cv2
import numpy as np

from alp_jax.data.labels import CITYSCAPES_ID_BY_NAME
from data_prep.toy_cities import appearance
from data_prep.toy_cities.camera import (
    NEAR_METRES,
    Camera,
    clip_to_near_plane,
    project,
    sample_camera,
    to_camera_frame,
)
from data_prep.toy_cities.draws import Draws
from data_prep.toy_cities.scene import Polygons
from data_prep.toy_cities.street import build_street

_SUPERSAMPLING = 2
_SUBPIXEL_BITS = 4
_MAX_SHARE = 0.62  # a view with more of one class other than road is redrawn
_MAX_CAMERAS = 6
_SKY = CITYSCAPES_ID_BY_NAME["sky"]
_ROAD = CITYSCAPES_ID_BY_NAME["road"]


class Domain(enum.IntEnum):
    """The two cities; the number is part of the random key."""

    SOURCE = 0
    TARGET = 1


class Split(enum.IntEnum):
    """The splits; the number is part of the random key."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


class _Stream(enum.IntEnum):
    """Independent random streams of one image."""

    WORLD = 0
    CAMERA = 1
    APPEARANCE = 2


@dataclasses.dataclass(frozen=True)
class Settings:
    """Parameters of the pixels. height, width: pixels. Shifts: in [0, 1], for the target only."""

    seed: int = 0
    height: int = 64
    width: int = 128
    camera_shift: float = 1.0
    appearance_shift: float = 0.6


def render(
    settings: Settings, domain: Domain, split: Split, index: int
) -> tuple[np.ndarray, np.ndarray]:
    """Renders one image of one split.

    Returns:
        (image, labels): [H, W, 3] uint8 RGB and [H, W] uint8 Cityscapes label ids.
    """
    key = (settings.seed, domain, split, index)
    target = domain == Domain.TARGET
    scene, corridor = build_street(Draws(*key, _Stream.WORLD))
    camera_draws = Draws(*key, _Stream.CAMERA)
    camera_shift = settings.camera_shift if target else 0.0
    best_share = 2.0
    for _ in range(_MAX_CAMERAS):
        camera = sample_camera(camera_draws, corridor, camera_shift)
        polygons = scene.polygons(camera)
        polygon_map = _paint(polygons, camera, settings.height, settings.width)
        labels = np.append(polygons.label_id, np.uint8(_SKY))[polygon_map[::2, ::2]]
        share = _largest_share(labels)
        if share < best_share:
            best_share, best = share, (polygons, polygon_map, labels)
        if share <= _MAX_SHARE:
            break
    polygons, polygon_map, labels = best
    look_draws = Draws(*key, _Stream.APPEARANCE)
    look = appearance.sample_appearance(look_draws, settings.appearance_shift if target else 0.0)
    summed = _sum_samples(polygon_map, polygons, look)
    return appearance.develop(summed, labels, _SKY, look, look_draws), labels


def _paint(polygons: Polygons, camera: Camera, height: int, width: int) -> np.ndarray:
    """Paints polygon numbers in order into a [2H, 2W] int32 map; -1 is sky."""
    height, width = height * _SUPERSAMPLING, width * _SUPERSAMPLING
    focal = camera.focal(width)
    points = to_camera_frame(camera, polygons.points)
    depth = points[:, :, 2]
    in_front = depth >= NEAR_METRES
    whole = in_front.all(axis=1)
    pixels = project(np.where(in_front[:, :, None], points, 1.0), focal, height, width)
    cut = np.flatnonzero(in_front.any(axis=1) & ~whole)
    visible = whole & _touches_image(pixels, height, width)
    visible[cut] = True
    corners = _to_fixed_point(pixels)
    clipped = {
        i: _to_fixed_point(
            project(clip_to_near_plane(points[i, : polygons.num_points[i]]), focal, height, width)
        )
        for i in cut.tolist()
    }
    canvas = np.full((height, width), -1, np.int32)
    counts = polygons.num_points.tolist()
    for i in np.flatnonzero(visible).tolist():
        shape = clipped[i] if i in clipped else corners[i, : counts[i]]
        if len(shape) >= 3:
            cv2.fillConvexPoly(canvas, shape, i, cv2.LINE_8, _SUBPIXEL_BITS)
    return canvas


def _touches_image(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns whether the bounding box of projected corners [P, 8, 2] meets the image, [P] bool."""
    low, high = pixels.min(axis=1), pixels.max(axis=1)
    inside = (high > 0) & (low < np.array([width, height]))
    return inside.all(axis=1)


def _to_fixed_point(pixels: np.ndarray) -> np.ndarray:
    """Converts pixel coordinates, centres at .5, to OpenCV's fixed point, centres at integers."""
    return np.rint((pixels - 0.5) * (1 << _SUBPIXEL_BITS)).astype(np.int32)


def _largest_share(labels: np.ndarray) -> float:
    """Computes the fraction of pixels of the most frequent class other than road."""
    counts = np.bincount(labels.ravel(), minlength=256)
    counts[_ROAD] = 0
    return int(counts.max()) / labels.size


def _sum_samples(
    polygon_map: np.ndarray, polygons: Polygons, look: appearance.Appearance
) -> np.ndarray:
    """Sums the four colour samples of every pixel: [H, W, 3] int32."""
    table = np.append(appearance.polygon_colours(polygons, look), np.zeros((1, 3), np.uint8), 0)
    samples = table.take(polygon_map, axis=0, mode="wrap").astype(np.int32)
    sky = polygon_map < 0
    rows = appearance.sky_rows(look, len(polygon_map)).astype(np.int32)
    samples += np.where(sky[:, :, None], rows[:, None, :], 0)
    return samples[::2, ::2] + samples[1::2, ::2] + samples[::2, 1::2] + samples[1::2, 1::2]
