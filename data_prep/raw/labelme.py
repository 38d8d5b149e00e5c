"""Draws the shapes of labelme's JSON files as label maps.

Synopsis:

  shape_map = load_shape_map("map.yaml")       # {car: car, _background_: ignore}
  values = shape_map(label_file_bytes)         # [H, W] uint8 stored values
  shape_map.table                              # their classes

Shapes are drawn with Pillow, as labelme does, in the order of the file: a later one covers an
earlier one. `_background_` of the map is the area without a shape.
"""

import base64
import binascii
import dataclasses
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from alp_jax.data.labels import LabelTable
from alp_jax.data.yaml_text import decode_text
from alp_jax.errors import UserError
from data_prep.common.json_text import parse_json
from data_prep.raw.label_map import DEFAULT, describe, load_entries, make_table, number_classes
from data_prep.raw.labels import WRONG_FORMAT, check_values
from data_prep.raw.layout import FaultError, MapReader

BACKGROUND = "_background_"  # labelme's own name for the area without a shape.
_MAX_SIDE = 65_535
_FAR = 10  # Sides of the image that a point may lie outside of it; Pillow draws what is outside.
Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class ShapeMap(MapReader):
    """Meaning of the labels of shapes.

    Attributes:
        stored: label of a shape -> stored value; with BACKGROUND for the area without a shape.
        default: stored value of every other label; None if another label is an error.
        table: classes of the stored values.
    """

    stored: Mapping[str, int]
    default: int | None
    table: LabelTable

    @property
    def meanings(self) -> Mapping[str, str]:
        """Label of a shape -> class, as in MapReader."""
        return describe(self.stored, self.default, self.table)

    def read_with_keys(self, data: bytes) -> tuple[np.ndarray, frozenset[str]]:
        """Draws the shapes of a file, as in MapReader."""
        try:
            content = parse_json(decode_text(data))
        except ValueError as error:
            raise FaultError("files that cannot be decoded", f"is not JSON ({error})") from error
        size = _read_size(content)
        values = np.full(size, self.stored[BACKGROUND], np.uint8)
        unknown: dict[str, int] = {}
        met = set()
        is_free = np.ones(size, bool)
        for number, shape in enumerate(content["shapes"], start=1):
            label = shape.get("label") if isinstance(shape, dict) else None
            if not isinstance(label, str):
                raise _wrong(f"has no label for its shape number {number}", "give it one")
            mask = _draw(shape, f"its shape number {number} ({label!r})", size)
            stored = self.stored.get(label, self.default)
            if stored is None:
                unknown[label] = unknown.get(label, 0) + int(mask.sum())
                continue
            met.add(label)
            values[mask] = stored
            is_free[mask] = False
        check_values(unknown, repr, "add it to the label map, by itself or as default: ignore")
        if is_free.any():
            met.add(BACKGROUND)
        return values, frozenset(met & self.stored.keys())


def load_shape_map(path: str) -> ShapeMap:
    """Reads a label map whose keys are labels of shapes.

    Raises:
        UserError: if it cannot be read, has a wrong key or class, or does not name BACKGROUND.
    """
    entries = load_entries(path)
    for key in entries:
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise UserError(
                f"{path} has the key {key!r}: expected labels of shapes; put it in quotes."
            )
    stored_by_name = number_classes(path, entries)
    stored = {str(key): stored_by_name[name] for key, name in entries.items() if key != DEFAULT}
    if BACKGROUND not in stored:
        raise UserError(
            f"{path} does not say what the area without a shape is: add {BACKGROUND}: ignore, or "
            f"{BACKGROUND} with the name of a class."
        )
    default = stored_by_name[entries[DEFAULT]] if DEFAULT in entries else None
    return ShapeMap(stored, default, make_table(stored_by_name))


def _wrong(reason: str, remedy: str) -> FaultError:
    return FaultError(WRONG_FORMAT, reason, remedy=f"{remedy} in labelme")


def _read_size(content: Any) -> tuple[int, int]:
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise FaultError(WRONG_FORMAT, "is no file of labelme: it has no list of shapes")
    height, width = (_read_side(content.get(key)) for key in ("imageHeight", "imageWidth"))
    if Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS:
        raise _wrong(f"has {height}x{width} pixels, too many to be safe", "label a smaller image")
    return height, width


def _read_side(side: Any) -> int:
    if not (isinstance(side, int) and 1 <= side <= _MAX_SIDE):
        raise _wrong("has no imageHeight and imageWidth", "open and save it")
    return side


def _draw(shape: Mapping[str, Any], what: str, size: tuple[int, int]) -> np.ndarray:
    """Returns the pixels of a shape: [H, W] bool."""
    kind = shape.get("shape_type") or "polygon"  # Older files have no type.
    points = _read_points(shape.get("points"), what, size)
    if kind not in ("polygon", "rectangle", "circle", "mask"):
        raise _wrong(
            f"has {kind!r} as {what}, which is not drawn",
            "make it a polygon, rectangle, circle or mask",
        )
    if len(points) < 3 if kind == "polygon" else len(points) != 2:
        number = "3 or more" if kind == "polygon" else "2"
        raise _wrong(f"has {len(points)} points for {what}, a {kind} of {number}", "draw it again")
    if kind == "mask":
        return _paste(shape.get("mask"), points, what, size)
    image = Image.new("L", size[::-1])
    draw = ImageDraw.Draw(image)
    if kind == "polygon":
        draw.polygon(points, outline=1, fill=1)
    elif kind == "rectangle":
        (x, y), (other_x, other_y) = points
        corners = (min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y))
        draw.rectangle(corners, outline=1, fill=1)
    else:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    return np.asarray(image).astype(bool)


def _read_points(points: Any, what: str, size: tuple[int, int]) -> list[Point]:
    far = _FAR * max(size)
    found = []
    for point in points if isinstance(points, list) else [None]:
        if not (
            isinstance(point, list)
            and len(point) == 2
            and all(type(number) in (int, float) for number in point)
        ):
            raise _wrong(f"has no list of points [x, y] for {what}", "draw it again")
        if max(map(abs, point)) > far:
            raise _wrong(f"has the point {point} for {what}, far outside the image", "move it")
        found.append((float(point[0]), float(point[1])))
    return found


def _paste(encoded: Any, points: list[Point], what: str, size: tuple[int, int]) -> np.ndarray:
    """Places a mask, a PNG file as base64, into the box of its two points."""
    try:
        part = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))) > 0
    except (binascii.Error, TypeError, ValueError, OSError, Image.DecompressionBombError) as error:
        raise _wrong(f"has a mask that cannot be decoded as {what}", "draw it again") from error
    (left, top), (right, bottom) = ((int(x), int(y)) for x, y in points)
    box = (bottom - top + 1, right - left + 1)
    if part.shape != box or min(left, top) < 0 or right >= size[1] or bottom >= size[0]:
        raise _wrong(f"has a mask that does not fit its box as {what}", "draw it again")
    mask = np.zeros(size, bool)
    mask[top : bottom + 1, left : right + 1] = part
    return mask
