"""Shape models, small sets of convex polygons in an object's own coordinates, and primitives.

A model's own axes: x to its right, y up, z forward. Units are metres, or units that the object's
scale converts to metres. A model lists its polygons from back to front, the painting order.
"""

import dataclasses
import enum
import math
from collections.abc import Iterable, Sequence

import numpy as np

from alp_jax.data.labels import CITYSCAPES_ID_BY_NAME
from data_prep.toy_cities.materials import Material

MAX_VERTICES = 8
Point = tuple[float, float, float]


class Turn(enum.IntEnum):
    """Rotation of an object: by its heading, about the vertical to the camera, or fully to it."""

    HEADING = 0
    UPRIGHT = 1
    FACING = 2


@dataclasses.dataclass(frozen=True)
class Face:
    """One convex polygon.

    points: 3 to 8 corners, clockwise when seen from outside. class_name: scene class. shade:
    brightness factor. second: whether it takes the object's second colour instead of the first.
    one_sided: whether it is invisible from behind. jitter: added to the tone (wraps around).
    """

    points: tuple[Point, ...]
    class_name: str
    material: Material
    shade: float = 1.0
    second: bool = False
    one_sided: bool = False
    jitter: float = 0.0


@dataclasses.dataclass(frozen=True)
class Model:
    """The faces of one kind of object, and the object's rotation."""

    name: str
    faces: tuple[Face, ...]
    turn: Turn = Turn.HEADING


def rectangle(x: tuple[float, float], y: tuple[float, float], z: float = 0.0) -> tuple[Point, ...]:
    """Creates an upright rectangle at a given z, with its outside towards -z."""
    return ((x[0], y[0], z), (x[0], y[1], z), (x[1], y[1], z), (x[1], y[0], z))


def side_rectangle(
    z: tuple[float, float], y: tuple[float, float], x: float = 0.0
) -> tuple[Point, ...]:
    """Creates an upright rectangle at a given x, with its outside away from x = 0."""
    points = ((x, y[0], z[0]), (x, y[1], z[0]), (x, y[1], z[1]), (x, y[0], z[1]))
    return points if x >= 0 else points[::-1]


def flat_rectangle(
    x: tuple[float, float], z: tuple[float, float], y: float = 0.0
) -> tuple[Point, ...]:
    """Creates a level rectangle at height y, visible from above."""
    return ((x[0], y, z[0]), (x[0], y, z[1]), (x[1], y, z[1]), (x[1], y, z[0]))


def disc(centre: tuple[float, float], radius: float, corners: int = 8) -> tuple[Point, ...]:
    """Creates a regular polygon in the plane z = 0 about centre (x, y)."""
    return tuple(
        (centre[0] + radius * sin, centre[1] + radius * cos, 0.0) for sin, cos in _circle(corners)
    )


def side_disc(
    centre: tuple[float, float], radius: float, x: float = 0.0, corners: int = 8
) -> tuple[Point, ...]:
    """Creates a regular polygon at a given x about centre (z, y), such as a wheel."""
    points = tuple(
        (x, centre[1] + radius * cos, centre[0] + radius * sin) for sin, cos in _circle(corners)
    )
    return points if x >= 0 else points[::-1]


def bar(start: tuple[float, float], end: tuple[float, float], width: float) -> tuple[Point, ...]:
    """Creates a thick line in the plane x = 0 from start (z, y) to end (z, y)."""
    dz, dy = end[0] - start[0], end[1] - start[1]
    scale = width / 2 / math.sqrt(dz * dz + dy * dy)
    nz, ny = -dy * scale, dz * scale
    corners = ((start, 1), (start, -1), (end, -1), (end, 1))
    return tuple((0.0, p[1] + sign * ny, p[0] + sign * nz) for p, sign in corners)


def prism(
    low: tuple[float, float, float],
    high: tuple[float, float, float],
    class_name: str,
    material: Material,
    taper: tuple[float, float, float] = (0.0, 0.0, 0.0),
    second: bool = False,
    top_material: Material | None = None,
) -> list[Face]:
    """Creates a box without bottom from corner low to corner high (x, y, z), visible from outside.

    taper: distances by which the top is moved inwards at both sides, at the back, at the front.
    """
    (x0, y0, z0), (x1, y1, z1) = low, high
    tx, tback, tfront = taper
    a, b, c, d = (x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)
    e, f = (x0 + tx, y1, z0 + tback), (x1 - tx, y1, z0 + tback)
    g, h = (x1 - tx, y1, z1 - tfront), (x0 + tx, y1, z1 - tfront)
    walls = (((a, e, f, b), 1.0), ((c, g, h, d), 0.92), ((d, h, e, a), 0.84), ((b, f, g, c), 0.76))
    faces = [
        Face(points, class_name, material, shade, second, one_sided=True) for points, shade in walls
    ]
    top = material if top_material is None else top_material
    faces.append(Face((e, h, g, f), class_name, top, 1.1, second, one_sided=True))
    return faces


def mirrored(faces: Iterable[Face]) -> list[Face]:
    """Mirrors faces at the plane x = 0."""
    return [
        dataclasses.replace(face, points=tuple((-x, y, z) for x, y, z in reversed(face.points)))
        for face in faces
    ]


class ModelTable:
    """All faces of a list of models as arrays, so that a scene is assembled by indexing."""

    def __init__(self, models: Sequence[Model]) -> None:
        """Concatenates the faces of the models in order."""
        faces = [face for model in models for face in model.faces]
        self.index = {model.name: i for i, model in enumerate(models)}
        self.turn = np.array([model.turn for model in models])
        self.num_faces = np.array([len(model.faces) for model in models])
        self.first_face = np.cumsum(self.num_faces) - self.num_faces
        self.num_points = np.array([len(face.points) for face in faces])
        padded = [f.points + f.points[-1:] * (MAX_VERTICES - len(f.points)) for f in faces]
        self.points = np.array(padded, np.float64)
        self.label_id = np.array([CITYSCAPES_ID_BY_NAME[f.class_name] for f in faces], np.uint8)
        self.material = np.array([face.material for face in faces])
        self.shade = np.array([face.shade for face in faces])
        self.second = np.array([face.second for face in faces])
        self.one_sided = np.array([face.one_sided for face in faces])
        self.jitter = np.array([face.jitter for face in faces])


def _circle(corners: int) -> list[tuple[float, float]]:
    """Computes (sine, cosine) of a regular polygon's corners, rounded to be machine-independent."""
    angles = [2 * math.pi * (i + 0.5) / corners for i in range(corners)]
    return [(round(math.sin(a), 9), round(math.cos(a), 9)) for a in angles]
