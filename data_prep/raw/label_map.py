"""Reads a user's label map: the classes of label values or colours.

Synopsis:

  label_map = load_label_map("map.json")     # {"0": "background", "255": "crack"}
  values = label_map.read(label_file_bytes)  # [H, W] uint8 stored values
  label_map.table                            # their classes: 0 background, 1 crack, 255 ignored

Classes are stored as 0, 1, ... in the order of the map, and `ignore` as 255, whatever the values in
the files are. So the value 255 of a file may be a class.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from alp_jax.data.class_names import IGNORE, NAME_RULE, find_near, is_class_name
from alp_jax.data.label_files import MAX_CLASSES
from alp_jax.data.labels import CITYSCAPES_TABLE, IGNORE_LABEL, LabelTable
from alp_jax.data.yaml_text import decode_text, parse_yaml
from alp_jax.errors import UserError
from data_prep.common.json_text import parse_json
from data_prep.common.text import count
from data_prep.raw.cvat import parse_labelmap
from data_prep.raw.label_pixels import Values, open_label, read_colours, read_values
from data_prep.raw.labels import WRONG_FORMAT, check_values
from data_prep.raw.layout import FaultError, MapReader
from data_prep.raw.tables import CITYSCAPES

T = TypeVar("T")

DEFAULT = "default"
_MAX_VALUE = 65_535
_PARSERS = {".json": parse_json, ".yaml": parse_yaml, ".yml": parse_yaml, ".txt": parse_labelmap}
_WITHOUT_MAP = (
    "say with --label_map=map.yaml what the values mean, as without it they are Cityscapes label "
    "ids"
)
_NOT_IN_MAP = "add it to the label map, by itself or as default: ignore"


@dataclasses.dataclass(frozen=True)
class LabelMap(MapReader):
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

    @property
    def meanings(self) -> Mapping[str, str]:
        """Value or colour -> class, as in MapReader; nothing for Cityscapes label ids."""
        if self.table is None and self.stored == CITYSCAPES.stored:
            return {}
        return describe(self.stored, self.default, self.table or CITYSCAPES_TABLE, self._show)

    def read(self, data: bytes) -> np.ndarray:
        """Reads a label file: [H, W] uint8 stored values.

        Raises:
            FaultError: if it cannot be read exactly, or holds a value that is not in the map.
        """
        return self.read_with_keys(data)[0]

    def read_with_keys(self, data: bytes) -> tuple[np.ndarray, frozenset[str]]:
        """Reads a label file, as in MapReader."""
        image = open_label(data)
        if self.is_colour:
            values = read_colours(data, image)
        else:
            found = read_values(data, image)
            self._check_bits(found)
            values = found.pixels
        known, stored = self._sorted
        position = np.minimum(np.searchsorted(known, values), len(known) - 1)
        result, unknown = stored[position], known[position] != values
        others: list[int] = []
        if self.default is not None:
            result[unknown] = self.default
            others = _list_distinct(values[unknown])
        elif unknown.any():
            there, pixels = np.unique(values[unknown], return_counts=True)
            counts = dict(zip(there.tolist(), pixels.tolist(), strict=True))
            check_values(counts, self._show, _NOT_IN_MAP if self.table else _WITHOUT_MAP)
        met = known[np.bincount(position[~unknown], minlength=len(known)) > 0]
        return result, frozenset(map(self._show, [*met.tolist(), *others]))

    @functools.cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """The values of the map in ascending order, and their stored values."""
        known = sorted(self.stored)
        return np.array(known), np.array([self.stored[value] for value in known], np.uint8)

    def _show(self, value: int) -> str:
        return f"#{value:06x}" if self.is_colour else str(value)

    def _check_bits(self, values: Values) -> None:
        """Refuses fewer than 8 bits without a map, or with one for the values of other programs."""
        if values.bits >= 8:
            return
        largest = 2**values.bits - 1
        held = f"has {count(values.bits, 'bit')} per pixel, so values from 0 to {largest}"
        if self.table is None:
            raise FaultError(
                WRONG_FORMAT, held, remedy=f"say with --label_map what 0 to {largest} mean"
            )
        for value in np.unique(values.pixels).tolist():
            shown = value * (255 // largest)
            if value not in self.stored and shown in self.stored:
                raise FaultError(
                    WRONG_FORMAT,
                    f"{held}, and the label map has {shown}, which other programs show for {value}",
                    remedy=f"write {value} for {shown} in the label map",
                )


def _list_distinct(values: np.ndarray) -> list[int]:
    """Lists the distinct values of pixels, in whose rows a value often repeats the one before."""
    is_first = np.ones(len(values), bool)
    is_first[1:] = values[1:] != values[:-1]
    distinct: list[int] = np.unique(values[is_first]).tolist()
    return distinct


# Map for labels that already hold Cityscapes label ids.
CITYSCAPES_IDS = LabelMap(CITYSCAPES.stored)


def load_label_map(path: str) -> LabelMap:
    """Reads a file: value or colour -> class name, or "ignore"; JSON, YAML or CVAT's labelmap.txt.

    Raises:
        UserError: if the file cannot be read, or has a wrong key or class.
    """
    entries = load_entries(path)
    stored_by_name = number_classes(path, entries)
    stored: dict[int, int] = {}
    first: dict[int, Any] = {}
    kinds: dict[bool, str] = {}
    for key, name in entries.items():
        if key == DEFAULT:
            continue
        value, is_colour = _parse_key(path, key)
        kinds.setdefault(is_colour, str(key))
        if first.setdefault(value, key) != key and len(kinds) == 1:
            raise UserError(
                f"{path} names one {'colour' if is_colour else 'value'} twice, as {first[value]!r} "
                f"and {key!r}: keep one of them."
            )
        stored[value] = stored_by_name[name]
    if len(kinds) != 1:
        example = " and ".join(kinds.values()) if kinds else "no key but default"
        raise UserError(
            f"{path} has {example}: expected either values such as 7 or colours such as "
            '"#804080" as keys.'
        )
    default = stored_by_name[entries[DEFAULT]] if DEFAULT in entries else None
    return LabelMap(stored, next(iter(kinds)), default, make_table(stored_by_name))


def load_entries(path: str) -> dict[Any, Any]:
    """Reads the entries of a label map file; a key that is written twice is an error.

    Raises:
        UserError: if it cannot be read, or holds no entry.
    """
    file = pathlib.Path(path).expanduser()
    parse = _PARSERS.get(file.suffix)
    if parse is None:
        raise UserError(
            f"--label_map is {path}: expected a .json or .yaml file, CVAT's labelmap.txt, or "
            "cityscapes_train_ids or cityscapes_label_ids."
        )
    try:
        text = decode_text(file.read_bytes())
    except OSError as error:
        raise UserError(f"The label map {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"The label map {path} cannot be read: {error}.") from error
    try:
        entries = parse(text)
    except ValueError as error:
        kind = "a labelmap.txt of CVAT" if file.suffix == ".txt" else file.suffix[1:]
        raise UserError(f"The label map {path} is not {kind}: {error}.") from error
    if not isinstance(entries, dict) or not entries:
        raise UserError(
            f"{path} holds no label map: expected entries such as 7: road or "
            '"#804080": road (in YAML, a colour that begins with # needs its quotes).'
        )
    for key in entries:
        if not str(key).isprintable():
            raise UserError(f"{path} has the key {key!r}: expected a value, a colour or default.")
    return entries


def describe(
    stored: Mapping[T, int],
    default: int | None,
    table: LabelTable,
    show: Callable[[T], str] = str,
) -> dict[str, str]:
    """Returns the meanings of a map, as in MapReader."""
    entries = {show(key): value for key, value in stored.items()}
    entries |= {} if default is None else {DEFAULT: default}
    return {key: table.names.get(value, IGNORE) for key, value in entries.items()}


def make_table(stored_by_name: Mapping[str, int]) -> LabelTable:
    """Returns the classes of the stored values."""
    return LabelTable({value: name for name, value in stored_by_name.items() if name != IGNORE})


def number_classes(path: str, entries: Mapping[Any, Any]) -> dict[str, int]:
    """Assigns stored values to the classes: 0, 1, ... in the order of the map; 255 to ignore.

    Raises:
        UserError: if a class has no allowed name, or there are none or too many.
    """
    stored: dict[str, int] = {}
    for key, name in entries.items():
        if name == IGNORE:
            continue
        is_ignore = isinstance(name, str) and name.strip().casefold() == IGNORE
        if is_ignore or not is_class_name(name):
            ignore = is_ignore or (isinstance(name, str) and find_near(name, [IGNORE]))
            hint = "did you mean ignore? " if ignore else ""
            raise UserError(
                f"{path} gives {key} the class {name!r}: {hint}It must be ignore or a name of "
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
    if re.fullmatch("0|[1-9][0-9]*", text) and int(text) <= _MAX_VALUE:
        return int(text), False
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return int(text[1:], 16), True
    if re.fullmatch("[0-9]{1,3} *, *[0-9]{1,3} *, *[0-9]{1,3}", text):
        red, green, blue = (int(part) for part in text.split(","))
        if max(red, green, blue) <= 255:
            return red << 16 | green << 8 | blue, True
    hint = "did you mean default? " if find_near(text, [DEFAULT]) else ""
    raise UserError(
        f"{path} has the key {key!r}: {hint}It must be a label value from 0 to {_MAX_VALUE}, a "
        'colour such as "#804080" or "128,64,128", or default.'
    )
