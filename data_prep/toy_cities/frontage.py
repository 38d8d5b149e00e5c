"""Builds house fronts, walls, fences, hedges and trees along the street, and its far end."""

from data_prep.toy_cities import furniture
from data_prep.toy_cities.draws import Draws
from data_prep.toy_cities.scene import AHEAD, LEFT, RIGHT, Layer, Place, Scene

_LAST_WINDOWS = 70.0  # metres; farther house fronts are plain


def add_frontage(
    scene: Scene, draws: Draws, side: int, edge: float, start: float, end: float
) -> None:
    """Fills a side of the street (-1 left, 1 right) with lots at x = edge, z = start to end."""
    z = start
    while z < end:
        length = draws.uniform(8, 20)
        middle = z + length / 2
        place = Place(Layer.FRONTAGE, 0.0, middle, 1e3, length / 2)
        kind = draws.pick((0.56, 0.17, 0.17, 0.10))
        if kind == 0:
            _add_house(scene, draws, side, edge, middle, length, place)
            z += draws.uniform(0, 4) if draws.chance(0.25) else 0.0
        elif kind == 1:
            _add_background(scene, draws, side, edge, middle, length, place)
            _add_wall(scene, draws, side, edge, middle, length, place)
        elif kind == 2:
            _add_background(scene, draws, side, edge, middle, length, place)
            _add_fence(scene, draws, side, edge, middle, length, place)
        else:
            _add_greenery(scene, draws, side, edge, middle, length, place)
        z += length


def _inward(side: int) -> tuple[float, float]:
    """Returns the heading that turns a model's front (-z) to the street."""
    return RIGHT if side > 0 else LEFT


def _add_house(
    scene: Scene, draws: Draws, side: int, x: float, z: float, length: float, place: Place
) -> None:
    height, heading = draws.uniform(6, 17), _inward(side)
    scene.add("house", (x, 0.0, z), place, (length, height, 12.0), heading)
    front = x - side * 0.03
    pitch, floor = draws.uniform(2.4, 3.6), draws.uniform(2.8, 3.5)
    tone = draws.unit()
    if z - length / 2 > _LAST_WINDOWS:
        return
    count = max(2, min(int(length / pitch), furniture.MAX_WINDOWS_PER_FLOOR))
    level = 1.0
    while level + 1.7 < height:
        colours = (0.0, tone + 0.07 * level, 0.0, 0.0)
        scene.add(
            f"windows_{count}", (front, level, z), place, (length, 1.5, 1.0), heading, colours
        )
        level += floor
    door = z + draws.uniform(-0.35, 0.35) * length
    scene.add("door", (front - side * 0.02, 0.0, door), place, (1.4, 2.3, 1.0), heading)


def _add_background(
    scene: Scene, draws: Draws, side: int, edge: float, z: float, length: float, place: Place
) -> None:
    """Adds the background behind a wall or fence: a house set back, trees, or nothing."""
    kind = draws.pick((0.45, 0.4, 0.15))
    if kind == 0:
        _add_house(scene, draws, side, edge + side * draws.uniform(5, 10), z, length, place)
    elif kind == 1:
        _add_greenery(scene, draws, side, edge + side * 2.5, z, length, place)


def _add_wall(
    scene: Scene, draws: Draws, side: int, edge: float, z: float, length: float, place: Place
) -> None:
    scale = (length, draws.uniform(2.0, 3.6), 0.4)
    scene.add("wall", (edge, 0.0, z), place, scale, _inward(side))


def _add_fence(
    scene: Scene, draws: Draws, side: int, edge: float, z: float, length: float, place: Place
) -> None:
    height, colours = draws.uniform(1.5, 2.4), (draws.unit(), draws.unit(), 0.0, 0.0)
    panels = max(2, int(length / 3.0))
    step = length / panels
    for i in range(panels):
        position = (edge, 0.0, z - length / 2 + (i + 0.5) * step)
        scene.add("fence", position, place, (step, height, 1.0), _inward(side), colours)


def _add_greenery(
    scene: Scene, draws: Draws, side: int, edge: float, z: float, length: float, place: Place
) -> None:
    """Adds a hedge, and trees behind it."""
    for _ in range(2):
        along = z + draws.uniform(-0.5, 0.5) * length
        add_tree(scene, draws, edge + side * draws.uniform(1.5, 4), along, place)
    scale = (length, draws.uniform(1.2, 3.2), 1.2)
    scene.add("hedge", (edge, 0.0, z), place, scale, _inward(side))


def add_tree(scene: Scene, draws: Draws, x: float, z: float, place: Place) -> None:
    """Adds a tree: a trunk, and three or four overlapping crowns."""
    height = draws.uniform(4.5, 7.5)
    colours = scene.add("trunk", (x, 0.0, z), place, (1.0, 0.7 * height, 1.0))
    hue, tone = colours[0], colours[1]
    for i in range(draws.integer(3, 4)):
        radius = draws.uniform(1.0, 1.8)
        centre = (
            x + draws.uniform(-0.9, 0.9),
            height * draws.uniform(0.7, 0.95),
            z + draws.uniform(-0.9, 0.9),
        )
        shade_tone = (0.7 * tone + 0.28 * i) % 1.0
        scale = (radius, radius * draws.uniform(0.8, 1.0), 1.0)
        scene.add("crown", centre, place, scale, AHEAD, (hue, shade_tone, 0.0, 0.0))


def add_street_end(scene: Scene, draws: Draws, z: float) -> None:
    """Closes the view along the street with trees or houses."""
    trees = draws.chance(0.5)
    x = -90.0
    while x < 90.0:
        width = draws.uniform(10, 25)
        place = Place(Layer.SKYLINE, x + width / 2, z, width / 2, 1.0)
        model = "hedge" if trees else "house"
        height = draws.uniform(5, 9) if trees else draws.uniform(6, 18)
        scene.add(model, (x + width / 2, 0.0, z), place, (width, height, 5.0))
        x += width
