"""Models of cars, buses, bicycles and motorcycles, which drive towards +z of their own axes."""

from data_prep.toy_cities import models
from data_prep.toy_cities.materials import Material
from data_prep.toy_cities.models import Face, Model


def _shadow(half_width: float, half_length: float) -> Face:
    points = models.flat_rectangle((-half_width, half_width), (-half_length, half_length), 0.02)
    return Face(points, "road", Material.SHADOW)


def _wheels(class_name: str, x: float, axles: tuple[float, ...], radius: float) -> list[Face]:
    faces = []
    for z in axles:
        for scale, material in ((1.0, Material.TYRE), (0.5, Material.HUB)):
            points = models.side_disc((z, radius), radius * scale, x)
            faces.append(Face(points, class_name, material, one_sided=True))
    return faces + models.mirrored(faces)


def _end_lamps(class_name: str, x: float, y: tuple[float, float], half_length: float) -> list[Face]:
    """Creates red lamps at the back and white lamps at the front, on both sides."""
    back, front = -half_length - 0.02, half_length + 0.02
    spans = ((x - 0.36, x), (-x, -x + 0.36))
    faces = []
    for span in spans:
        tail = models.rectangle(span, y, back)
        head = models.rectangle(span, y, front)[::-1]
        faces.append(Face(tail, class_name, Material.TAIL_LAMP, one_sided=True))
        faces.append(Face(head, class_name, Material.HEAD_LAMP, one_sided=True))
    return faces


def _car() -> Model:
    """Creates a car, 4.3 m long, 1.8 m wide, 1.52 m high."""
    name, glass = "car", Material.GLASS
    faces = [_shadow(0.98, 2.25)]
    faces += models.prism((-0.9, 0.24, -2.15), (0.9, 0.88, 2.15), name, Material.CAR_PAINT)
    cabin = models.prism(
        (-0.86, 0.88, -1.85), (0.86, 1.52, 0.95), name, glass, (0.16, 0.4, 0.75),
        top_material=Material.CAR_PAINT,
    )  # fmt: skip
    faces += cabin
    pillars = []
    for z_low, z_high in ((-0.5, -0.38), (-1.52, -1.38)):
        points = (
            (0.87, 0.88, z_low),
            (0.71, 1.52, z_low),
            (0.71, 1.52, z_high),
            (0.87, 0.88, z_high),
        )
        pillars.append(Face(points, name, Material.CAR_PAINT, 0.8, one_sided=True))
    faces += pillars + models.mirrored(pillars)
    faces += _wheels(name, 0.92, (-1.35, 1.35), 0.34)
    faces += _end_lamps(name, 0.86, (0.58, 0.78), 2.15)
    plate = models.rectangle((-0.28, 0.28), (0.42, 0.56), -2.17)
    faces.append(Face(plate, name, Material.SIGN_WHITE, one_sided=True))
    return Model("car", tuple(faces))


def _bus() -> Model:
    """Creates a bus, 9.6 m long, 2.5 m wide, 3 m high."""
    name, glass = "bus", Material.GLASS
    faces = [_shadow(1.3, 4.9)]
    faces += models.prism((-1.25, 0.32, -4.8), (1.25, 3.0, 4.8), name, Material.BUS_PAINT)
    panes = []
    for i in range(5):
        z = -4.5 + 1.82 * i
        points = models.side_rectangle((z, z + 1.6), (1.5, 2.55), 1.27)
        panes.append(Face(points, name, glass, one_sided=True, jitter=0.13 * i))
    faces += panes + models.mirrored(panes)
    back = models.rectangle((-1.0, 1.0), (1.65, 2.6), -4.83)
    front = models.rectangle((-1.1, 1.1), (1.25, 2.55), 4.83)[::-1]
    faces.append(Face(back, name, glass, one_sided=True))
    faces.append(Face(front, name, glass, one_sided=True))
    board = models.rectangle((-0.7, 0.7), (2.68, 2.92), 4.83)[::-1]
    faces.append(Face(board, name, Material.VEST, one_sided=True))
    faces += _wheels(name, 1.27, (-3.0, 3.1), 0.48)
    faces += _end_lamps(name, 1.15, (0.7, 1.1), 4.8)
    return Model("bus", tuple(faces))


def _bicycle() -> Model:
    """Creates a bicycle, 1.9 m long: thin dark tyres, light spokes, a bright frame of bars."""
    name, frame = "bicycle", Material.BICYCLE_FRAME
    faces = []
    for z in (-0.58, 0.58):
        faces.append(Face(models.side_disc((z, 0.38), 0.4), name, Material.TYRE))
        faces.append(Face(models.side_disc((z, 0.38), 0.3), name, Material.SPOKES))
    bars = (
        ((-0.58, 0.38), (-0.05, 0.4)),
        ((-0.05, 0.4), (0.4, 0.88)),
        ((-0.05, 0.4), (-0.24, 0.98)),
        ((-0.2, 0.86), (0.42, 0.9)),
        ((0.58, 0.38), (0.38, 1.1)),
    )
    faces += [Face(models.bar(start, end, 0.13), name, frame) for start, end in bars]
    faces.append(Face(models.bar((-0.42, 1.0), (-0.06, 1.0), 0.12), name, Material.MOTOR_BLACK))
    for z in (0.9, -0.9):  # the wheels as seen from the front and from behind
        faces.append(Face(models.rectangle((-0.08, 0.08), (0.0, 0.78), z), name, Material.TYRE))
    faces.append(Face(models.rectangle((-0.07, 0.07), (0.5, 1.05), 0.4), name, frame))
    handlebar = models.rectangle((-0.36, 0.36), (1.02, 1.16), 0.38)
    faces.append(Face(handlebar, name, frame, 0.9))
    saddle = models.rectangle((-0.14, 0.14), (0.92, 1.05), -0.42)
    faces.append(Face(saddle, name, Material.MOTOR_BLACK))
    return Model("bicycle", tuple(faces))


def _motorcycle() -> Model:
    """Creates a motorcycle, 2.1 m long.

    It has thick dark wheels with a small hub, a solid body, and a lamp at each end.
    """
    name, paint, black = "motorcycle", Material.MOTOR_PAINT, Material.MOTOR_BLACK
    faces = []
    for z in (-0.72, 0.72):
        faces.append(Face(models.side_disc((z, 0.38), 0.4), name, Material.TYRE))
        faces.append(Face(models.side_disc((z, 0.38), 0.12), name, Material.HUB))
    body = ((0, 0.3, -0.45), (0, 0.92, -0.95), (0, 1.08, -0.2), (0, 1.12, 0.25), (0, 0.85, 0.55),
            (0, 0.3, 0.4))  # fmt: skip
    faces.append(Face(body, name, paint))
    faces.append(Face(models.bar((-0.95, 0.94), (-0.1, 0.9), 0.2), name, black))
    faces.append(Face(models.bar((-0.3, 0.36), (-1.0, 0.46), 0.14), name, Material.HUB))
    faces.append(Face(models.bar((0.72, 0.38), (0.38, 1.15), 0.14), name, black))
    for z in (1.08, -1.08):
        faces.append(Face(models.rectangle((-0.16, 0.16), (0.0, 0.78), z), name, Material.TYRE))
    for z, lamp in ((0.6, Material.HEAD_LAMP), (-0.98, Material.TAIL_LAMP)):
        chest = ((-0.3, 0.4, z), (-0.36, 0.75, z), (-0.2, 1.05, z), (0.2, 1.05, z),
                 (0.36, 0.75, z), (0.3, 0.4, z))  # fmt: skip
        outside = 0.02 if z > 0 else -0.02
        lens = models.rectangle((-0.14, 0.14), (0.74, 0.94), z + outside)
        if z > 0:
            chest, lens = chest[::-1], lens[::-1]
        faces.append(Face(chest, name, paint, 0.9, one_sided=True))
        faces.append(Face(lens, name, lamp, one_sided=True))
    handlebar = models.rectangle((-0.45, 0.45), (1.08, 1.2), 0.4)
    faces.append(Face(handlebar, name, black))
    return Model("motorcycle", tuple(faces))


MODELS = (_car(), _bus(), _bicycle(), _motorcycle())
