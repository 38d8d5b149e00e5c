"""Reads a user's label map: the classes of label values or colours.

Synopsis:

  label_map = load_label_map("map.json")     # {"0": "background", "255": "crack"}
  values = label_map.read(label_file_bytes)  # [H, W] uint8 stored values
  label_map.table                            # their classes: 0 background, 1 crack, 255 ignored

Classes are stored as 0, 1, ... in the order of the map, and `ignore` as 255, whatever the values in
the files are. So the value 255 of a file may be a class.
"""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from alp_jax.data.class_names import IGNORE, NAME_RULE, find_near, is_class_name
from alp_jax.data.label_files import MAX_CLASSES
from alp_jax.data.labels import IGNORE_LABEL, LabelTable
from alp_jax.data.yaml_text import parse_yaml
from alp_jax.errors import UserError
from data_prep.raw.images import PNG_GREY, describe_png, open_image
from data_prep.raw.labels import WRONG_FORMAT, check_values
from data_prep.raw.layout import FaultError
from data_prep.raw.tables import CITYSCAPES

_DEFAULT = "default"
_EXACT_FORMATS = ("PNG", "TIFF", "BMP")
_MAX_VALUE = 65_535


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """Meaning of the values or colours in a user's label files.

    Attributes:
        stored: value, or colour as 0xRRGGBB -> stored value.
        is_colour: whether label files are colour images.
        default: stored value of everything else; None if anything else is an error.
        table: classes of the stored values; None: they are Cityscapes label ids.
    """

    stored: Mapping[int, int]
    is_colour: bool = False
    default: int | None = None
    table: LabelTable | None = None

    def read(self, data: bytes) -> np.ndarray:
        """Reads a label file.

        Returns:
            [H, W] uint8 stored values.
        Raises:
            FaultError: if it cannot be read exactly, or holds a value that is not in the map.
        """
        image = open_image(data)
        if image.format not in _EXACT_FORMATS:
            raise FaultError(
                WRONG_FORMAT,
                f"is a {image.format} file, which may not keep values exactly: convert the "
                f"original labels to PNG (or {', '.join(_EXACT_FORMATS[1:])})",
            )
        values = _colours(image, data) if self.is_colour else _values(image, data)
        known = np.array(sorted(self.stored))
        stored = np.array([self.stored[value] for value in sorted(self.stored)], np.uint8)
        position = np.minimum(np.searchsorted(known, values), len(known) - 1)
        result, unknown = stored[position], known[position] != values
        if self.default is None and unknown.any():
            found, pixels = np.unique(values[unknown], return_counts=True)
            counts = dict(zip(found.tolist(), pixels.tolist(), strict=True))
            check_values(counts, lambda value: f"#{value:06x}" if self.is_colour else str(value))
        elif self.default is not None:
            result[unknown] = self.default
        return result


# Map for labels that already hold Cityscapes label ids.
CITYSCAPES_IDS = LabelMap(CITYSCAPES.stored)


def _values(image: Image.Image, data: bytes) -> np.ndarray:
    """Returns the values of a palette or grey image: [H, W] int32."""
    bits, colour_type = describe_png(data) or (8, PNG_GREY)
    if colour_type == PNG_GREY and (bits < 8 or image.mode == "1"):
        raise FaultError(WRONG_FORMAT, "has fewer than 8 bits per pixel: convert it to 8 bits")
    if image.mode not in ("L", "P") and not image.mode.startswith("I;16"):
        raise FaultError(
            WRONG_FORMAT,
            f"has mode {image.mode}, but values are read from a palette or grey image of 8 or 16 "
            "bits: for a colour image, write colours into the label map",
        )
    return np.asarray(image).astype(np.int32)


def _colours(image: Image.Image, data: bytes) -> np.ndarray:
    """Returns the colours of an image as 0xRRGGBB: [H, W] int32."""
    bits, _ = describe_png(data) or (8, 0)
    if bits > 8 or image.mode[0] in "IF":
        raise FaultError(WRONG_FORMAT, "has more than 8 bits per channel")
    image = image.convert("RGBA") if image.mode in ("P", "PA") else image
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), np.int32), 2, 0)
    return red << 16 | green << 8 | blue


def load_label_map(path: str) -> LabelMap:
    """Reads a JSON or YAML file: value or colour -> class name, or "ignore".

    Raises:
        UserError: if the file cannot be read, or has a wrong key or class.
    """
    entries = _load(pathlib.Path(path).expanduser())
    stored_by_name = _number_classes(path, entries)
    stored: dict[int, int] = {}
    kinds: dict[bool, str] = {}
    for key, name in entries.items():
        if not str(key).isprintable():
            raise UserError(f"{path} has the key {key!r}: expected a value, a colour or default.")
        if key == _DEFAULT:
            continue
        value, is_colour = _parse_key(path, key)
        kinds.setdefault(is_colour, str(key))
        if stored.setdefault(value, stored_by_name[name]) != stored_by_name[name]:
            raise UserError(f"{path} has two classes for {key}: keep one of them.")
    if len(kinds) != 1:
        example = " and ".join(kinds.values()) if kinds else "no key but default"
        raise UserError(
            f"{path} has {example}: expected either values such as 7 or colours such as "
            '"#804080" as keys.'
        )
    default = stored_by_name[entries[_DEFAULT]] if _DEFAULT in entries else None
    names = {value: name for name, value in stored_by_name.items() if name != IGNORE}
    return LabelMap(stored, next(iter(kinds)), default, LabelTable(names))


def _load(path: pathlib.Path) -> dict[Any, Any]:
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise UserError(
            f"label_map is {path}, but it must be a .json or .yaml file, or "
            "cityscapes_train_ids or cityscapes_label_ids."
        )
    try:
        text = path.read_text(encoding="utf-8")
        entries = json.loads(text) if path.suffix == ".json" else parse_yaml(text)
    except OSError as error:
        raise UserError(f"The label map {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        message = " ".join(str(error).split())
        raise UserError(f"The label map {path} is not {path.suffix[1:]}: {message}.") from error
    if not isinstance(entries, dict) or not entries:
        raise UserError(
            f"{path} holds no label map: expected entries such as 7: road or "
            '"#804080": road (in YAML, a colour that begins with # needs its quotes).'
        )
    return entries


def _number_classes(path: str, entries: Mapping[Any, Any]) -> dict[str, int]:
    """Assigns stored values to the classes: 0, 1, ... in the order of the map; 255 to ignore."""
    stored: dict[str, int] = {}
    for key, name in entries.items():
        if name == IGNORE:
            continue
        if not is_class_name(name):
            ignore = find_near(name, [IGNORE]) if isinstance(name, str) else None
            hint = "did you mean ignore? " if ignore else ""
            shown = key if str(key).isprintable() else repr(key)
            raise UserError(
                f"{path} gives {shown} the class {name!r}: {hint}It must be ignore or a name of "
                f"{NAME_RULE}; write another (in YAML, a name such as yes or 12 needs quotes)."
            )
        stored.setdefault(name, len(stored))
    if not 1 <= len(stored) <= MAX_CLASSES:
        raise UserError(
            f"{path} names {len(stored)} classes: expected 1 to {MAX_CLASSES}; name classes, or "
            "prepare the images without labels."
        )
    return {**stored, IGNORE: IGNORE_LABEL}


def _parse_key(path: str, key: Any) -> tuple[int, bool]:
    """Parses a key to (value, False) or (0xRRGGBB, True)."""
    text = "" if isinstance(key, bool) else str(key).strip()
    if re.fullmatch(r"\d+", text) and int(text) <= _MAX_VALUE:
        return int(text), False
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return int(text[1:], 16), True
    if re.fullmatch(r"\d+ *, *\d+ *, *\d+", text):
        red, green, blue = (int(part) for part in text.split(","))
        if max(red, green, blue) <= 255:
            return red << 16 | green << 8 | blue, True
    hint = "did you mean default? " if find_near(text, [_DEFAULT]) else ""
    raise UserError(
        f"{path} has the key {key!r}: {hint}It must be a label value from 0 to {_MAX_VALUE}, a "
        'colour such as "#804080" or "128,64,128", or default.'
    )
