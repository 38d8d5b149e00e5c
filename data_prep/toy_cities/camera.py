"""Samples the cameras of the two cities, and projects points with them.

World axes: x right, y up, z forward along the street (metres); every camera stands at z = 0.
The source camera is drawn anywhere in the street, at many heights and angles, as in SYNTHIA. The
target camera is a dashcam, as in Cityscapes: in its lane, level, looking forward.
"""

import dataclasses
import math

import numpy as np

from data_prep.toy_cities.draws import Draws

NEAR_METRES = 0.3
_FRONTAGE_MARGIN = 0.7  # minimum distance of a camera from the house fronts, metres
_LANE_X = (1.3, 2.2)


@dataclasses.dataclass(frozen=True)
class Corridor:
    """The space between the house fronts: widths of half the road and the sidewalks, metres."""

    half_road: float
    left_sidewalk: float
    right_sidewalk: float

    @property
    def left(self) -> float:
        """Position x of the left house fronts, metres."""
        return -(self.half_road + self.left_sidewalk)

    @property
    def right(self) -> float:
        """Position x of the right house fronts, metres."""
        return self.half_road + self.right_sidewalk


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera. x, height: metres; angles: degrees; positive pitch looks down."""

    x: float
    height: float
    pitch: float
    yaw: float
    roll: float
    fov: float

    def axes(self) -> np.ndarray:
        """Computes the camera's right, up and forward unit vectors in the world, [3, 3] float64."""
        sin_yaw, cos_yaw = _sin_cos(self.yaw)
        sin_pitch, cos_pitch = _sin_cos(self.pitch)
        sin_roll, cos_roll = _sin_cos(self.roll)
        right = (cos_yaw, 0.0, -sin_yaw)
        up = (sin_yaw * sin_pitch, cos_pitch, cos_yaw * sin_pitch)
        forward = (sin_yaw * cos_pitch, -sin_pitch, cos_yaw * cos_pitch)
        rolled_right = [cos_roll * r + sin_roll * u for r, u in zip(right, up, strict=True)]
        rolled_up = [cos_roll * u - sin_roll * r for r, u in zip(right, up, strict=True)]
        return np.array([rolled_right, rolled_up, forward])

    def focal(self, width: int) -> float:
        """Computes the focal length for an image of this width, pixels."""
        return width / 2 / round(math.tan(math.radians(self.fov) / 2), 9)


def to_camera_frame(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Transforms world points [..., 3] to (right, up, forward) coordinates of the camera, metres.

    Uses sums of products, not a matmul: BLAS may differ in the last bit between machines.
    """
    axes = camera.axes()
    dx = points[..., 0] - camera.x
    dy = points[..., 1] - camera.height
    dz = points[..., 2]
    return np.stack([dx * a[0] + dy * a[1] + dz * a[2] for a in axes], axis=-1)


def project(points: np.ndarray, focal: float, height: int, width: int) -> np.ndarray:
    """Projects points [..., 3] in front of the camera, in its frame, to pixels [..., 2] (u, v)."""
    scale = focal / points[..., 2]
    u = width / 2 + points[..., 0] * scale
    v = height / 2 - points[..., 1] * scale
    return np.stack([u, v], axis=-1)


def clip_to_near_plane(polygon: np.ndarray) -> np.ndarray:
    """Clips a polygon at depth NEAR_METRES (Sutherland-Hodgman): [n, 3] -> [m, 3], m >= 0."""
    kept: list[tuple[float, float, float]] = []
    points = polygon.tolist()
    for start, end in zip(points, points[1:] + points[:1], strict=True):
        start_in = start[2] >= NEAR_METRES
        if start_in:
            kept.append((start[0], start[1], start[2]))
        if start_in != (end[2] >= NEAR_METRES):
            t = (NEAR_METRES - start[2]) / (end[2] - start[2])
            x, y = (start[k] + t * (end[k] - start[k]) for k in range(2))
            kept.append((x, y, NEAR_METRES))
    return np.array(kept).reshape(-1, 3)


def sample_camera(draws: Draws, corridor: Corridor, camera_shift: float) -> Camera:
    """Samples a camera: a source camera at shift 0, a dashcam at 1, a blend of both in between."""
    source = _sample_source(draws, corridor)
    dashcam = _sample_dashcam(draws)
    blended = {
        field.name: (1 - camera_shift) * getattr(source, field.name)
        + camera_shift * getattr(dashcam, field.name)
        for field in dataclasses.fields(Camera)
    }
    return Camera(**blended)


def _sample_dashcam(draws: Draws) -> Camera:
    return Camera(
        x=draws.uniform(*_LANE_X),
        height=draws.uniform(1.35, 1.55),
        pitch=draws.uniform(1.5, 3.0),
        yaw=draws.uniform(-2.5, 2.5),
        roll=0.0,
        fov=draws.uniform(58, 62),
    )


def _sample_source(draws: Draws, corridor: Corridor) -> Camera:
    """Samples a camera along the street (.27), from above (.43) or across from a sidewalk (.30)."""
    kind = draws.pick((0.27, 0.43, 0.30))
    low, high = corridor.left + _FRONTAGE_MARGIN, corridor.right - _FRONTAGE_MARGIN
    side = draws.sign()  # -1: the camera stands left and looks right
    position = draws.unit()
    x = low + (high - low) * position
    if kind == 0:
        height, pitch = draws.uniform(1.6, 5.0), draws.uniform(-2, 14)
        yaw = draws.uniform(-24, 24)
    elif kind == 1:
        height = draws.uniform(4.5, 11)
        pitch = draws.uniform(16, 26) + 2.2 * (height - 4.5)
        yaw = _towards_the_middle(x, corridor, draws.uniform(-65, 65))
    else:
        edge = high if side > 0 else -low
        x = side * (edge - 3.0 * position)
        height, pitch = draws.uniform(1.4, 4.2), draws.uniform(-2, 16)
        yaw = -side * draws.uniform(28, 75)
    return Camera(x, height, pitch, yaw, draws.uniform(-7, 7), draws.uniform(50, 90))


def _towards_the_middle(x: float, corridor: Corridor, yaw: float) -> float:
    """Returns the yaw, mirrored if the camera would face the nearer house front."""
    centre = (corridor.left + corridor.right) / 2
    return -yaw if (x - centre) * yaw > 0 else yaw


def _sin_cos(degrees: float) -> tuple[float, float]:
    """Computes sine and cosine, rounded so that the machine's C library does not matter."""
    angle = math.radians(degrees)
    return round(math.sin(angle), 9), round(math.cos(angle), 9)
