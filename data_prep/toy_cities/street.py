"""Builds the street of one image: ground, house fronts, furniture, people and traffic.

Streets have the same distribution in both cities; only cameras and colours differ. Traffic keeps to
the right: the dashcam's lane has x > 0. Distances are in metres; the camera is at z = 0.
"""

import dataclasses
import itertools

from data_prep.toy_cities import frontage
from data_prep.toy_cities.camera import Corridor
from data_prep.toy_cities.draws import Draws
from data_prep.toy_cities.scene import AHEAD, BACK, LEFT, RIGHT, Layer, Place, Scene

_START, _END = -40.0, 135.0
_LAST_OBJECT = 70.0
_GROUND_BANDS = (-40.0, -12.0, 0.0, 8.0, 16.0, 30.0, 55.0, 135.0)
_SIGNS = ("round_sign", "triangle_sign", "square_sign")


@dataclasses.dataclass
class _Street:
    """The shared state of all parts of a street while it is built."""

    scene: Scene
    draws: Draws
    corridor: Corridor
    crossing: float | None  # z of the middle of a zebra crossing

    def near_crossing(self, z: float, margin: float) -> bool:
        return self.crossing is not None and abs(z - self.crossing) < margin

    def edge(self, side: int) -> float:
        """Returns the x of the house fronts on a side."""
        return self.corridor.right if side > 0 else self.corridor.left


def build_street(draws: Draws) -> tuple[Scene, Corridor]:
    """Draws a street; returns its objects, and the corridor in which a camera may stand."""
    corridor = Corridor(draws.uniform(4.5, 6.2), draws.uniform(2.4, 4.2), draws.uniform(2.4, 4.2))
    crossing = draws.uniform(7, 20) if draws.chance(0.5) else None
    street = _Street(Scene(draws), draws, corridor, crossing)
    _add_ground(street)
    frontage.add_street_end(street.scene, draws, _END)
    for side in (-1, 1):
        frontage.add_frontage(street.scene, draws, side, street.edge(side), _START, _END)
        _add_furniture(street, side)
        _add_pedestrians(street, side)
        _add_parking(street, side)
        _add_traffic(street, side)
        _add_riders(street, side)
    if crossing is not None:
        _add_crossing(street, crossing)
    return street.scene, corridor


def _add_ground(street: _Street) -> None:
    """Adds strips along the street, split into bands so that haze can grow with distance."""
    scene, draws, corridor = street.scene, street.draws, street.corridor
    half = corridor.half_road
    colours = {name: (0.0, draws.unit(), 0.0, 0.0) for name in ("sidewalk", "road", "curb")}
    strips = [("sidewalk", 0.0, 130.0), ("road", 0.0, 2 * half)]
    strips += [("curb", side * (half + 0.14), 0.28) for side in (-1, 1)]
    for name, x, width in strips:
        for start, end in itertools.pairwise(_GROUND_BANDS):
            middle, length = (start + end) / 2, end - start
            place = Place(Layer.GROUND, 0.0, middle, 1e3, length / 2)
            scale = (width, 1.0, length)
            scene.add(name, (x, 0.0, middle), place, scale, colours=colours[name])
    place = Place(Layer.GROUND, 0.0, 0.0, 1e3, 0.0)
    white = (0.0, draws.unit(), 0.0, 0.0)
    for i in range(-4, 10):
        z = 6.0 * i + 1.5
        if not street.near_crossing(z, 3.0):
            scene.add("marking", (0.0, 0.0, z), place, (0.22, 1.0, 2.5), colours=white)
    if street.crossing is not None:
        stripes = int(2 * half / 1.1)
        for i in range(stripes):
            x = 1.1 * (i - (stripes - 1) / 2)
            scene.add("marking", (x, 0.0, street.crossing), place, (0.55, 1.0, 3.0), colours=white)


def _add_furniture(street: _Street, side: int) -> None:
    """Adds lamps, signs, traffic lights, trees, railings and bollards along the curb."""
    scene, draws = street.scene, street.draws
    x = side * (street.corridor.half_road + 0.6)
    inward = BACK if side > 0 else AHEAD  # turns a model's +x axis to the road
    z = draws.uniform(-14, -6)
    while z < _LAST_OBJECT:
        place = Place(Layer.OBJECT, x, z, 0.2, 0.2, 6.0)
        kind = draws.pick((0.24, 0.30, 0.16, 0.12, 0.18))
        if kind == 0:
            size = draws.uniform(0.8, 1.15)
            colours = scene.add("lamp_post", (x, 0.0, z), place, (1.0, size, 1.0))
            scene.add("lamp_arm", (x, 0.0, z), place, (1.0, size, 1.0), inward, colours)
        elif kind == 1:
            size = draws.uniform(0.9, 1.1)
            scene.add(_SIGNS[draws.integer(0, 2)], (x, 0.0, z), place, (size, size, size))
        elif kind == 2:
            _add_traffic_light(street, x, z)
        elif kind == 3:
            frontage.add_tree(scene, draws, x + 0.5 * side, z, place)
        else:
            _add_railing(street, side, z)
        z += draws.uniform(4.5, 11)


def _add_traffic_light(street: _Street, x: float, z: float) -> None:
    name = "green_light" if street.draws.chance(0.5) else "red_light"
    size = street.draws.uniform(0.9, 1.05)
    street.scene.add(
        name, (x, 0.0, z), Place(Layer.OBJECT, x, z, 0.2, 0.2, 4.2), (size, size, size)
    )


def _add_railing(street: _Street, side: int, z: float) -> None:
    """Adds a fence between sidewalk and road, or a row of bollards."""
    scene, draws = street.scene, street.draws
    x = side * (street.corridor.half_road + 0.45)
    if draws.chance(0.4):
        for i in range(draws.integer(3, 5)):
            place = Place(Layer.OBJECT, x, z + 1.3 * i, 0.1, 0.1, 1.0)
            scene.add("bollard", (x, 0.0, z + 1.3 * i), place)
        return
    colours = (draws.unit(), draws.unit(), 0.0, 0.0)
    height = draws.uniform(0.95, 1.25)
    for i in range(draws.integer(2, 4)):
        middle = z + 2.4 * i
        if not street.near_crossing(middle, 3.0):
            place = Place(Layer.OBJECT, x, middle, 0.05, 1.2, height)
            heading = RIGHT if side > 0 else LEFT
            scene.add("fence", (x, 0.0, middle), place, (2.4, height, 1.0), heading, colours)


def _add_person(street: _Street, x: float, z: float) -> None:
    height = street.draws.uniform(1.6, 1.95)
    name = "walker" if street.draws.chance(0.6) else "stander"
    width = height * street.draws.uniform(1.1, 1.35)
    place = Place(Layer.OBJECT, x, z, 0.2, 0.2, height)
    street.scene.add(name, (x, 0.0, z), place, (width, height, 1.0))


def _add_pedestrians(street: _Street, side: int) -> None:
    """Adds three to seven people on a sidewalk: the first three near, the others anywhere."""
    draws, half = street.draws, street.corridor.half_road
    for i in range(draws.integer(3, 7)):
        z = draws.uniform(5, 18) if i < 3 else draws.uniform(-6, 40)
        x = draws.uniform(half + 0.9, abs(street.edge(side)) - 0.4)
        _add_person(street, side * x, z)


def _add_parking(street: _Street, side: int) -> None:
    """Adds cars, bicycle racks and motorcycles at the curb."""
    draws, half = street.draws, street.corridor.half_road
    z = draws.uniform(-16, -10)
    while z < _LAST_OBJECT:
        if street.near_crossing(z, 4.5):
            z += 4.5
            continue
        kind = draws.pick((0.30, 0.16, 0.16, 0.38))
        if kind == 0:
            _add_car(street, side * (half - 1.1), z, AHEAD if side > 0 else BACK)
        elif kind == 1:
            _add_rack(street, side, z)
        elif kind == 2:
            x = side * (half - draws.uniform(0.5, 1.0))
            for i in range(draws.integer(1, 2)):
                _add_two_wheeler(street, "motorcycle", x, z + 1.5 * i, LEFT if side < 0 else RIGHT)
        z += draws.uniform(5.0, 7.5)
    if draws.chance(0.3):  # a two-wheeler on the sidewalk, leaning against a house
        x = street.edge(side) - side * 0.5
        name = "bicycle" if draws.chance(0.6) else "motorcycle"
        _add_two_wheeler(street, name, x, draws.uniform(4, 16), AHEAD)


def _add_rack(street: _Street, side: int, z: float) -> None:
    """Adds bicycles side by side, across the street's direction."""
    draws = street.draws
    x = side * (street.corridor.half_road + draws.uniform(-0.2, 1.2))
    for i in range(draws.integer(2, 4)):
        _add_two_wheeler(street, "bicycle", x, z + 1.0 * i, RIGHT if draws.chance(0.5) else LEFT)


def _add_car(street: _Street, x: float, z: float, heading: tuple[float, float]) -> None:
    draws = street.draws
    scale = (1.0, draws.uniform(0.93, 1.1), draws.uniform(0.92, 1.1))
    place = Place(Layer.OBJECT, x, z, 0.9, 2.2 * scale[2], 1.5)
    street.scene.add("car", (x, 0.0, z), place, scale, heading)


def _add_two_wheeler(
    street: _Street,
    model: str,
    x: float,
    z: float,
    heading: tuple[float, float],
    ridden: bool = False,
) -> None:
    """Adds a bicycle or a motorcycle, with or without a rider."""
    size = street.draws.uniform(1.1, 1.3)
    half_x, half_z = (1.0, 0.2) if heading in (LEFT, RIGHT) else (0.2, 1.0)
    place = Place(Layer.OBJECT, x, z, half_x, half_z, 2.2 if ridden else 1.3)
    scale = (size, size, size)
    street.scene.add(model, (x, 0.0, z), place, scale, heading)
    if ridden:
        street.scene.add("rider", (x, 0.0, z), place, scale, heading)


def _add_traffic(street: _Street, side: int) -> None:
    """Adds cars, buses and riders in the lane of a side."""
    draws, half = street.draws, street.corridor.half_road
    z = draws.uniform(-20, -12)
    heading = AHEAD if side > 0 else BACK
    while z < _LAST_OBJECT:
        in_dashcam_lane = side > 0 and -7 < z < 7.5
        x = side * draws.uniform(1.5, half - 3.0) if half > 4.6 else side * 1.55
        kind = draws.pick((0.31, 0.14, 0.17, 0.38))
        if kind == 0 and not in_dashcam_lane:
            _add_car(street, x, z, heading)
        elif kind == 1 and not (side > 0 and -10 < z < 11):
            place = Place(Layer.OBJECT, x, z, 1.25, 4.8, 3.0)
            street.scene.add("bus", (x, 0.0, z), place, heading=heading)
            z += 3.0
        elif kind == 2 and not in_dashcam_lane:
            name = "bicycle" if draws.chance(0.45) else "motorcycle"
            _add_two_wheeler(street, name, x, z, heading, ridden=True)
        z += draws.uniform(6.5, 12)


def _add_riders(street: _Street, side: int) -> None:
    """Adds riders between the lane and the parked cars, and rarely one who crosses the street."""
    draws, half = street.draws, street.corridor.half_road
    for near, far, probability in ((6.0, 13.0, 0.3), (10.0, 30.0, 0.4)):
        if draws.chance(probability):
            x = side * (half - draws.uniform(2.2, 2.6))
            name = "bicycle" if draws.chance(0.5) else "motorcycle"
            heading = AHEAD if side > 0 else BACK
            _add_two_wheeler(street, name, x, draws.uniform(near, far), heading, ridden=True)
    if draws.chance(0.16):
        x = side * draws.uniform(0.5, half - 0.5)
        name = "bicycle" if draws.chance(0.5) else "motorcycle"
        heading = LEFT if side > 0 else RIGHT
        _add_two_wheeler(street, name, x, draws.uniform(7, 18), heading, ridden=True)


def _add_crossing(street: _Street, crossing: float) -> None:
    """Adds traffic lights on both sides of the zebra crossing, and people on it."""
    half = street.corridor.half_road
    for side in (-1, 1):
        _add_traffic_light(street, side * (half + 0.5), crossing + side * 1.9)
    for _ in range(street.draws.integer(0, 4)):
        x = street.draws.uniform(-half, half)
        _add_person(street, x, crossing + street.draws.uniform(-1, 1))
