"""Collects objects in a scene, and converts them to arrays of polygons.

Synopsis:

  scene = Scene(draws)
  place = Place(Layer.OBJECT, x, z, half_x=0.9, half_z=2.2, top=1.5)
  scene.add("car", (x, 0.0, z), place)
  polygons = scene.polygons(camera)        # in painting order, far to near
"""

import dataclasses
import enum

import numpy as np

from data_prep.toy_cities import furniture, people, vehicles
from data_prep.toy_cities.camera import Camera
from data_prep.toy_cities.draws import Draws
from data_prep.toy_cities.models import ModelTable, Turn

TABLE = ModelTable((*furniture.MODELS, *people.MODELS, *vehicles.MODELS))
Colours = tuple[float, float, float, float]  # hue, tone, second hue, second tone
AHEAD, RIGHT, BACK, LEFT = (0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0)

_CLEARANCE_METRES = 1.5  # minimum distance of objects from the camera


class Layer(enum.IntEnum):
    """Layers of a scene, painted one after the other.

    Within a layer, far places are painted first; the flat ground is painted in the order of adding.
    """

    GROUND = 0
    SKYLINE = 1
    FRONTAGE = 2
    OBJECT = 3


@dataclasses.dataclass(frozen=True)
class Place:
    """The footprint of a group of objects that are painted together, metres; top is its height."""

    layer: Layer
    x: float = 0.0
    z: float = 0.0
    half_x: float = 0.0
    half_z: float = 0.0
    top: float = 0.0


@dataclasses.dataclass(frozen=True)
class Polygons:
    """P polygons in painting order.

    points: [P, 8, 3] world metres, padded with the last corner. num_points: [P]. label_id: [P]
    uint8 Cityscapes ids. material, hue, tone, shade: [P], see materials.py. distance: [P] metres
    from the camera to the polygon's place.
    """

    points: np.ndarray
    num_points: np.ndarray
    label_id: np.ndarray
    material: np.ndarray
    hue: np.ndarray
    tone: np.ndarray
    shade: np.ndarray
    distance: np.ndarray

    def select(self, kept: np.ndarray) -> "Polygons":
        """Selects polygons by a boolean mask or an index array."""
        fields = dataclasses.fields(self)
        return Polygons(**{field.name: getattr(self, field.name)[kept] for field in fields})


class Scene:
    """Collects objects, each with two colours drawn when it is added."""

    def __init__(self, draws: Draws) -> None:
        """Creates an empty scene, whose colours come from `draws`."""
        self._draws = draws
        self._models: list[int] = []
        self._rows: list[tuple[float, ...]] = []

    def add(
        self,
        model: str,
        position: tuple[float, float, float],
        place: Place,
        scale: tuple[float, float, float] = (1.0, 1.0, 1.0),
        heading: tuple[float, float] = AHEAD,
        colours: Colours | None = None,
    ) -> Colours:
        """Adds an object; objects of one place are painted in the order of adding.

        Args:
            model: name of a shape model.
            position: world x, y, z of the model's origin, metres.
            place: footprint that the object belongs to.
            scale: factors along the model's own axes.
            heading: world (x, z) direction of the model's z axis, unit length.
            colours: colours of the object; None draws them.
        Returns:
            The colours of the object, so that others can share them.
        """
        if colours is None:
            unit = self._draws.unit
            colours = (unit(), unit(), unit(), unit())
        footprint = (place.layer, place.x, place.z, place.half_x, place.half_z, place.top)
        self._models.append(TABLE.index[model])
        self._rows.append((*position, *scale, *heading, *colours, *footprint))
        return colours

    def polygons(self, camera: Camera) -> Polygons:
        """Converts the objects to the polygons that the camera may see, in painting order."""
        model, rows = np.array(self._models), np.array(self._rows)
        layer, distance = rows[:, 12], _distance(rows[:, 13:17], camera)
        too_near = (distance < _CLEARANCE_METRES) & (rows[:, 17] > camera.height - 1.5)
        # The flat ground has depth 0 everywhere. lexsort is stable, so ground and objects of one
        # place are painted in the order of adding.
        depth = np.where(layer == Layer.GROUND, 0.0, distance)
        order = np.lexsort((-depth, layer))
        order = order[~(too_near & (layer == Layer.OBJECT))[order]]
        model, rows, distance = model[order], rows[order], distance[order]

        count = TABLE.num_faces[model]
        owner = np.repeat(np.arange(len(rows)), count)
        face = np.arange(len(owner)) + np.repeat(
            TABLE.first_face[model] - np.cumsum(count) + count, count
        )
        hue, tone, second_hue, second_tone = rows[owner, 8:12].T
        second = TABLE.second[face]
        tone = np.where(second, second_tone, tone) + TABLE.jitter[face]
        polygons = Polygons(
            points=_world_points(rows, _axes(model, rows, camera), owner, face),
            num_points=TABLE.num_points[face],
            label_id=TABLE.label_id[face],
            material=TABLE.material[face],
            hue=np.where(second, second_hue, hue),
            tone=tone - np.floor(tone),
            shade=TABLE.shade[face],
            distance=distance[owner],
        )
        return polygons.select(~TABLE.one_sided[face] | _seen_from_outside(polygons.points, camera))


def _distance(footprints: np.ndarray, camera: Camera) -> np.ndarray:
    """Computes the horizontal distance from the camera to each footprint, metres."""
    x, z, half_x, half_z = footprints.T
    dx = np.maximum(np.abs(x - camera.x) - half_x, 0)
    dz = np.maximum(np.abs(z) - half_z, 0)
    return np.sqrt(dx * dx + dz * dz)


def _axes(model: np.ndarray, rows: np.ndarray, camera: Camera) -> np.ndarray:
    """Computes the world directions of each object's x, y and z axis, [n, 3, 3]."""
    turn = TABLE.turn[model]
    dx, dz = rows[:, 0] - camera.x, rows[:, 2]
    length = np.sqrt(dx * dx + dz * dz) + 1e-6
    heading_x = np.where(turn == Turn.HEADING, rows[:, 6], dx / length)
    heading_z = np.where(turn == Turn.HEADING, rows[:, 7], dz / length)
    axes = np.zeros((len(rows), 3, 3))
    axes[:, 0, 0], axes[:, 0, 2] = heading_z, -heading_x
    axes[:, 1, 1] = 1
    axes[:, 2, 0], axes[:, 2, 2] = heading_x, heading_z
    axes[turn == Turn.FACING] = camera.axes()
    return axes


def _world_points(
    rows: np.ndarray, axes: np.ndarray, owner: np.ndarray, face: np.ndarray
) -> np.ndarray:
    """Computes the world points of every face, [P, 8, 3]."""
    scaled = (axes * rows[:, 3:6, None])[owner]
    local = TABLE.points[face]
    points = rows[owner, None, 0:3] + local[:, :, 0:1] * scaled[:, None, 0]
    points += local[:, :, 1:2] * scaled[:, None, 1]
    points += local[:, :, 2:3] * scaled[:, None, 2]
    return points


def _seen_from_outside(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Returns whether the camera sees the corners of each face run clockwise, [P] bool."""
    a = (points[:, 1] - points[:, 0]).T
    b = (points[:, 2] - points[:, 0]).T
    normal = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    eye = (camera.x - points[:, 0, 0], camera.height - points[:, 0, 1], -points[:, 0, 2])
    return normal[0] * eye[0] + normal[1] * eye[1] + normal[2] * eye[2] > 0
