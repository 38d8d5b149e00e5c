"""Materials and their colours in the two cities.

A surface has a material, and its object has two random numbers in [0, 1): `hue` selects one of the
material's colour ramps, and `tone` a colour between the dark and the light end of that ramp.
"""

import enum
from collections.abc import Mapping, Sequence

import numpy as np

Rgb = tuple[int, int, int]
Ramp = tuple[Rgb, Rgb]


class Material(enum.IntEnum):
    """Material of a surface; the number is the row in the colour tables."""

    ROAD = 0
    SIDEWALK = enum.auto()
    CURB = enum.auto()
    MARKING = enum.auto()
    SHADOW = enum.auto()
    FACADE = enum.auto()
    ROOF = enum.auto()
    WINDOW = enum.auto()
    DOOR = enum.auto()
    BRICK_WALL = enum.auto()
    WALL_CAP = enum.auto()
    FENCE_PANEL = enum.auto()
    FENCE_BAR = enum.auto()
    LEAVES = enum.auto()
    TRUNK = enum.auto()
    POLE = enum.auto()
    SIGN_RED = enum.auto()
    SIGN_BLUE = enum.auto()
    SIGN_WHITE = enum.auto()
    LIGHT_BOX = enum.auto()
    LAMP_OFF = enum.auto()
    LAMP_RED = enum.auto()
    LAMP_GREEN = enum.auto()
    SKIN = enum.auto()
    HAIR = enum.auto()
    CLOTHES = enum.auto()
    TROUSERS = enum.auto()
    VEST = enum.auto()
    HELMET = enum.auto()
    CAR_PAINT = enum.auto()
    BUS_PAINT = enum.auto()
    GLASS = enum.auto()
    TYRE = enum.auto()
    HUB = enum.auto()
    TAIL_LAMP = enum.auto()
    HEAD_LAMP = enum.auto()
    BICYCLE_FRAME = enum.auto()
    SPOKES = enum.auto()
    MOTOR_PAINT = enum.auto()
    MOTOR_BLACK = enum.auto()


_BRIGHT: Sequence[Ramp] = (
    ((170, 25, 30), (235, 60, 55)),
    ((25, 60, 170), (60, 120, 235)),
    ((20, 130, 50), (60, 205, 90)),
    ((205, 150, 15), (250, 205, 50)),
    ((120, 30, 140), (190, 80, 215)),
    ((20, 140, 150), (60, 215, 220)),
    ((200, 80, 15), (245, 130, 50)),
    ((190, 190, 195), (245, 245, 245)),
)
_GREY_CARS: Sequence[Ramp] = (
    ((40, 42, 46), (70, 72, 76)),
    ((110, 112, 116), (150, 152, 156)),
    ((185, 186, 188), (215, 216, 218)),
    ((70, 28, 30), (105, 45, 45)),
    ((34, 44, 72), (52, 66, 100)),
    ((24, 25, 27), (48, 49, 52)),
    ((60, 70, 62), (88, 98, 88)),
    ((128, 120, 104), (160, 150, 130)),
)
_DARK_CLOTHES: Sequence[Ramp] = (
    ((28, 30, 36), (52, 55, 64)),
    ((46, 40, 38), (84, 70, 62)),
    ((34, 42, 60), (58, 70, 98)),
    ((80, 30, 34), (124, 50, 52)),
    ((90, 92, 92), (140, 142, 142)),
)
_GREY_BOX: Sequence[Ramp] = (((22, 22, 24), (40, 40, 42)),)

# material -> (ramps of the source city, ramps of the target city at appearance shift 1)
_RAMPS: Mapping[Material, tuple[Sequence[Ramp], Sequence[Ramp]]] = {
    Material.ROAD: ((((78, 78, 82), (108, 108, 112)),), (((88, 86, 86), (116, 112, 110)),)),
    Material.SIDEWALK: (
        (((160, 150, 138), (190, 180, 170)),),
        (((118, 110, 106), (150, 142, 136)),),
    ),
    Material.CURB: ((((195, 190, 182), (215, 210, 205)),), (((140, 136, 130), (165, 160, 152)),)),
    Material.MARKING: (
        (((225, 225, 225), (248, 248, 248)),),
        (((160, 160, 158), (205, 204, 200)),),
    ),
    Material.SHADOW: ((((44, 44, 48), (56, 56, 60)),), (((46, 45, 45), (60, 58, 58)),)),
    Material.FACADE: (
        (
            ((150, 70, 50), (195, 100, 75)),
            ((205, 180, 135), (235, 212, 170)),
            ((150, 135, 185), (190, 178, 215)),
            ((225, 200, 190), (240, 222, 214)),
            ((170, 120, 85), (200, 150, 110)),
        ),
        (
            ((104, 86, 76), (134, 114, 102)),
            ((138, 130, 116), (170, 160, 146)),
            ((108, 106, 106), (142, 140, 138)),
            ((150, 142, 136), (182, 174, 166)),
            ((92, 82, 74), (122, 110, 100)),
        ),
    ),
    Material.ROOF: ((((140, 55, 40), (175, 80, 60)),), (((82, 74, 70), (112, 104, 98)),)),
    Material.WINDOW: ((((70, 115, 165), (135, 180, 220)),), (((48, 52, 58), (112, 118, 124)),)),
    Material.DOOR: ((((75, 48, 30), (110, 75, 50)),), (((50, 44, 40), (80, 70, 64)),)),
    Material.BRICK_WALL: (
        (((125, 120, 150), (165, 160, 188)), ((180, 160, 125), (205, 188, 150))),
        (((104, 102, 108), (138, 135, 140)), ((120, 112, 102), (148, 140, 128))),
    ),
    Material.WALL_CAP: (
        (((200, 195, 200), (225, 220, 225)),),
        (((150, 146, 146), (172, 168, 166)),),
    ),
    Material.FENCE_PANEL: ((((110, 78, 55), (140, 104, 76)),), (((70, 64, 60), (96, 88, 82)),)),
    Material.FENCE_BAR: (
        (((205, 165, 120), (235, 200, 155)), ((225, 225, 222), (245, 245, 242))),
        (((128, 116, 104), (154, 142, 128)), ((152, 152, 150), (178, 178, 175))),
    ),
    Material.LEAVES: (
        (((35, 120, 30), (85, 170, 55)), ((60, 135, 30), (115, 185, 60))),
        (((52, 64, 36), (88, 98, 56)), ((70, 74, 42), (106, 106, 66))),
    ),
    Material.TRUNK: ((((95, 65, 40), (120, 85, 55)),), (((62, 54, 46), (84, 74, 64)),)),
    Material.POLE: ((((90, 95, 102), (125, 130, 138)),), (((78, 78, 80), (116, 116, 116)),)),
    Material.SIGN_RED: ((((215, 20, 25), (240, 45, 45)),), (((150, 42, 42), (178, 64, 60)),)),
    Material.SIGN_BLUE: ((((20, 60, 200), (40, 95, 235)),), (((40, 66, 128), (60, 90, 152)),)),
    Material.SIGN_WHITE: (
        (((240, 240, 240), (254, 254, 254)),),
        (((190, 190, 188), (220, 220, 216)),),
    ),
    Material.LIGHT_BOX: (_GREY_BOX, _GREY_BOX),
    Material.LAMP_OFF: ((((70, 62, 50), (84, 74, 60)),), (((56, 54, 50), (70, 66, 60)),)),
    Material.LAMP_RED: ((((250, 40, 30), (255, 70, 50)),), (((225, 70, 55), (245, 96, 76)),)),
    Material.LAMP_GREEN: ((((40, 245, 90), (80, 255, 130)),), (((90, 210, 140), (120, 232, 165)),)),
    Material.SKIN: (
        (((225, 175, 145), (245, 200, 172)), ((120, 80, 58), (160, 112, 84))),
        (((178, 144, 124), (205, 172, 152)), ((100, 74, 60), (134, 104, 86))),
    ),
    Material.HAIR: ((((50, 32, 20), (120, 85, 45)),), (((34, 30, 28), (84, 72, 60)),)),
    Material.CLOTHES: (_BRIGHT, _DARK_CLOTHES),
    Material.TROUSERS: ((((35, 45, 90), (80, 95, 150)),), (((26, 28, 34), (60, 62, 70)),)),
    Material.VEST: (
        (((225, 240, 30), (245, 255, 80)), ((250, 130, 20), (255, 160, 50))),
        (((166, 180, 62), (194, 206, 92)), ((190, 116, 62), (212, 140, 84))),
    ),
    Material.HELMET: (
        (((235, 235, 240), (252, 252, 255)), ((200, 25, 30), (235, 50, 50))),
        (((176, 176, 178), (206, 206, 206)), ((126, 48, 48), (158, 70, 66))),
    ),
    Material.CAR_PAINT: (_BRIGHT, _GREY_CARS),
    Material.BUS_PAINT: (
        (
            ((240, 170, 20), (255, 200, 50)),
            ((30, 90, 210), (60, 130, 240)),
            ((215, 30, 35), (240, 60, 55)),
        ),
        (
            ((186, 152, 84), (208, 176, 108)),
            ((62, 84, 126), (86, 108, 150)),
            ((140, 58, 56), (166, 80, 76)),
        ),
    ),
    Material.GLASS: ((((35, 50, 70), (80, 105, 135)),), (((34, 38, 42), (92, 98, 104)),)),
    Material.TYRE: ((((22, 22, 24), (36, 36, 38)),), (((24, 24, 24), (40, 39, 38)),)),
    Material.HUB: ((((170, 172, 178), (205, 208, 212)),), (((120, 120, 122), (150, 150, 150)),)),
    Material.TAIL_LAMP: ((((235, 25, 25), (255, 50, 45)),), (((190, 48, 42), (220, 66, 56)),)),
    Material.HEAD_LAMP: (
        (((245, 245, 220), (255, 255, 240)),),
        (((222, 222, 206), (244, 244, 230)),),
    ),
    Material.BICYCLE_FRAME: (
        _BRIGHT,
        (
            ((150, 56, 52), (178, 78, 70)),
            ((60, 86, 138), (86, 112, 164)),
            ((176, 176, 174), (204, 204, 202)),
        ),
    ),
    Material.SPOKES: ((((178, 182, 186), (212, 214, 218)),), (((128, 128, 128), (156, 156, 154)),)),
    Material.MOTOR_PAINT: (
        (
            ((150, 15, 20), (200, 30, 35)),
            ((15, 30, 130), (30, 60, 180)),
            ((30, 100, 40), (50, 140, 60)),
        ),
        (((92, 30, 30), (122, 46, 44)), ((32, 38, 66), (50, 58, 90)), ((40, 48, 40), (62, 72, 60))),
    ),
    Material.MOTOR_BLACK: ((((26, 26, 30), (48, 48, 54)),), (((26, 26, 28), (46, 46, 48)),)),
}


def _build_table(city: int) -> tuple[np.ndarray, np.ndarray]:
    """Builds a city's ([M] numbers of ramps, [M, most ramps, 2, 3] float64 colours 0..255)."""
    ramps = [_RAMPS[material][city] for material in Material]
    counts = np.array([len(r) for r in ramps])
    table = np.zeros((len(ramps), counts.max(), 2, 3))
    for row, material_ramps in zip(table, ramps, strict=True):
        row[: len(material_ramps)] = material_ramps
    return counts, table


_TABLES = (_build_table(0), _build_table(1))


def colours(
    material: np.ndarray, hue: np.ndarray, tone: np.ndarray, appearance_shift: float
) -> np.ndarray:
    """Looks up colours: [n, 3] float64 RGB 0..255, (1 - shift) * source + shift * target.

    Args:
        material: [n] int, numbers of Material.
        hue: [n] float64 in [0, 1).
        tone: [n] float64 in [0, 1).
        appearance_shift: in [0, 1]; 0 is the source city.
    """
    ends = []
    for counts, table in _TABLES:
        ramp = table[material, (hue * counts[material]).astype(np.int64)]
        ends.append(ramp[:, 0] + (ramp[:, 1] - ramp[:, 0]) * tone[:, None])
    return (1 - appearance_shift) * ends[0] + appearance_shift * ends[1]
