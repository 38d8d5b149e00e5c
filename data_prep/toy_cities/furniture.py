"""Models of street furniture, plants, fences, walls, houses and the ground.

All objects are thicker and larger than in reality, so that they remain visible at 64 x 128 pixels.
"""

from data_prep.toy_cities import models
from data_prep.toy_cities.materials import Material
from data_prep.toy_cities.models import Face, Model, Turn

MAX_WINDOWS_PER_FLOOR = 8
_PANES_PER_FENCE = 6


def _post(height: float, width: float, low: float = 0.0) -> Face:
    points = models.rectangle((-width / 2, width / 2), (low, height))
    return Face(points, "pole", Material.POLE)


def _lamp_post() -> list[Model]:
    """Creates a lamp post, 6 m high, and its arm, which reaches towards +x."""
    arm = ((0.0, 5.85, 0.0), (0.0, 6.1, 0.0), (1.7, 6.3, 0.0), (1.7, 6.1, 0.0))
    head = models.rectangle((1.4, 2.1), (6.02, 6.28))
    faces = (Face(arm, "pole", Material.POLE, 0.9), Face(head, "pole", Material.POLE, 0.7))
    return [
        Model("lamp_post", (_post(6.05, 0.3),), Turn.UPRIGHT),
        Model("lamp_arm", faces),
    ]


def _bollard() -> Model:
    cap = models.rectangle((-0.14, 0.14), (0.85, 1.0))
    return Model(
        "bollard",
        (_post(1.05, 0.28), Face(cap, "pole", Material.SIGN_WHITE)),
        Turn.UPRIGHT,
    )


def _sign(name: str, outer: tuple, inner: tuple, rim: Material) -> Model:
    kind = "traffic sign"
    faces = (
        _post(2.3, 0.2),
        Face(outer, kind, rim),
        Face(inner, kind, Material.SIGN_WHITE),
    )
    return Model(name, faces, Turn.UPRIGHT)


def _signs() -> list[Model]:
    """Creates a round, a triangular and a square sign, about 1.3 m wide, at a height of 2.75 m."""
    y = 2.75

    def triangle(size: float, low: float) -> tuple:
        return ((-size, low, 0.0), (0.0, low + 1.7 * size, 0.0), (size, low, 0.0))

    def square(half: float) -> tuple:
        return models.rectangle((-half, half), (y - half, y + half))

    return [
        _sign(
            "round_sign", models.disc((0.0, y), 0.7), models.disc((0.0, y), 0.42), Material.SIGN_RED
        ),
        _sign("triangle_sign", triangle(0.82, 2.1), triangle(0.46, 2.32), Material.SIGN_RED),
        _sign("square_sign", square(0.62), square(0.3), Material.SIGN_BLUE),
    ]


def _traffic_light(name: str, lit: int) -> Model:
    """Creates a post with a dark box and three lamps; lit: 0 lowest (green), 2 highest (red)."""
    kind = "traffic light"
    box = models.rectangle((-0.46, 0.46), (2.1, 4.1))
    faces = [_post(2.2, 0.24), Face(box, kind, Material.LIGHT_BOX)]
    for i in range(3):
        material = Material.LAMP_OFF
        if i == lit:
            material = Material.LAMP_RED if lit == 2 else Material.LAMP_GREEN
        faces.append(Face(models.disc((0.0, 2.46 + 0.64 * i), 0.27), kind, material))
    return Model(name, tuple(faces), Turn.UPRIGHT)


def _plants() -> list[Model]:
    trunk = models.rectangle((-0.18, 0.18), (0.0, 1.0))
    crown = Face(models.disc((0.0, 0.0), 1.0), "vegetation", Material.LEAVES)
    hedge = models.prism((-0.5, 0, 0), (0.5, 1, 1), "vegetation", Material.LEAVES)
    return [
        Model("trunk", (Face(trunk, "vegetation", Material.TRUNK),), Turn.UPRIGHT),
        Model("crown", (crown,), Turn.FACING),
        Model("hedge", tuple(hedge)),
    ]


def _fence() -> Model:
    """Creates a panel, two rails and upright bars; 1 unit long and high, outside towards -z."""
    kind, bar = "fence", Material.FENCE_BAR
    panel = models.rectangle((-0.5, 0.5), (0.04, 0.9))
    faces = [Face(panel, kind, Material.FENCE_PANEL)]
    for low, high in ((0.16, 0.3), (0.7, 0.84)):
        faces.append(Face(models.rectangle((-0.5, 0.5), (low, high)), kind, bar, 0.85))
    for i in range(_PANES_PER_FENCE):
        x = -0.5 + (i + 0.25) / _PANES_PER_FENCE
        upright = models.rectangle((x, x + 0.4 / _PANES_PER_FENCE), (0.0, 1.0))
        faces.append(Face(upright, kind, bar))
    return Model("fence", tuple(faces))


def _wall() -> Model:
    """Creates a wall with a light cap; 1 unit long, high and thick, outside towards -z."""
    faces = models.prism((-0.5, 0, 0), (0.5, 1, 1), "wall", Material.BRICK_WALL)
    cap = models.rectangle((-0.5, 0.5), (0.9, 1.02), -0.02)
    faces.append(Face(cap, "wall", Material.WALL_CAP, one_sided=True))
    return Model("wall", tuple(faces))


def _house() -> Model:
    """Creates a house as a box; 1 unit long, high and deep, front towards -z at z = 0."""
    faces = models.prism(
        (-0.5, 0, 0), (0.5, 1, 1), "building", Material.FACADE, top_material=Material.ROOF
    )
    return Model("house", tuple(faces))


def _door() -> Model:
    points = models.rectangle((-0.5, 0.5), (0.0, 1.0))
    return Model("door", (Face(points, "building", Material.DOOR, one_sided=True),))


def _window_row(count: int) -> Model:
    """Creates one floor of `count` windows, 1 unit long and high."""
    faces = []
    for i in range(count):
        left = -0.5 + (i + 0.24) / count
        points = models.rectangle((left, left + 0.52 / count), (0.0, 1.0))
        jitter = (i * 5 % 7) / 14
        faces.append(Face(points, "building", Material.WINDOW, one_sided=True, jitter=jitter))
    return Model(f"windows_{count}", tuple(faces))


def _ground(name: str, class_name: str, material: Material) -> Model:
    """Creates a level square of 1 x 1 unit around the origin."""
    points = models.flat_rectangle((-0.5, 0.5), (-0.5, 0.5))
    return Model(name, (Face(points, class_name, material),))


MODELS = (
    *_lamp_post(),
    _bollard(),
    *_signs(),
    _traffic_light("green_light", 0),
    _traffic_light("red_light", 2),
    *_plants(),
    _fence(),
    _wall(),
    _house(),
    _door(),
    *(_window_row(count) for count in range(2, MAX_WINDOWS_PER_FLOOR + 1)),
    _ground("road", "road", Material.ROAD),
    _ground("marking", "road", Material.MARKING),
    _ground("sidewalk", "sidewalk", Material.SIDEWALK),
    _ground("curb", "sidewalk", Material.CURB),
)
