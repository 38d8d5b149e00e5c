"""Maps the label values of a dataset to the classes of a run, by class name.

Synopsis:

  label_set = load_label_set("cityscapes_16")            # or a path: "my_classes.yaml"
  train_ids = label_set.map_table(table)[values]         # values of a dataset's labels
  label_ids = label_set.to_label_ids[train_ids]          # for files of predictions
  colours = label_set.colourise(train_ids)               # [..., 3] uint8 RGB

A LabelTable says which class each label value of a prepared dataset is. A LabelSet holds the
classes that a run distinguishes; its files are in alp_jax/data/label_sets. The network numbers
classes by train id, the position in the label set.
"""

import dataclasses
import functools
import importlib.resources
import itertools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from alp_jax.data import label_files
from alp_jax.data.class_names import find_near, is_class_name
from alp_jax.errors import UserError

IGNORE_LABEL = 255
# Colours of ignored pixels, and the distance in RGB up to which a class's colour looks the same.
_BLACK, _GREY, _NEAR_COLOUR = (0, 0, 0), (128, 128, 128), 48.0


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """The values of a dataset's stored labels.

    Attributes:
      names: value -> name of its class; several values may have the same class.
      ignored: values of pixels without a class; any other value is an error.
    """

    names: Mapping[int, str]
    ignored: frozenset[int] = frozenset({IGNORE_LABEL})

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names without duplicates, in the order of the values."""
        return tuple(dict.fromkeys(self.names[value] for value in sorted(self.names)))

    @functools.cached_property
    def is_known(self) -> np.ndarray:
        """[256] bool: whether a label may hold the value."""
        return np.isin(np.arange(256), [*self.names, *self.ignored])

    def describe(self) -> str:
        """Lists the values for people: "0 (ground), 1 (vehicle), or 255 for pixels to ignore"."""
        if self == CITYSCAPES_TABLE:
            return "Cityscapes label ids, 0 to 34, or 255 for pixels to ignore"
        values = ", ".join(f"{value} ({self.names[value]})" for value in sorted(self.names))
        ignored = ", ".join(map(str, sorted(self.ignored)))
        return f"{values}, or {ignored} for pixels to ignore"

    def to_metadata(self) -> dict[str, Any]:
        """Returns the entries of a dataset's metadata that hold the table."""
        names = {str(value): name for value, name in sorted(self.names.items())}
        return {"label_values": names, "ignored_label_values": sorted(self.ignored)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any] | None) -> Self | None:
        """Reads the table from a dataset's metadata; returns None if it has none.

        Raises:
          ValueError, TypeError, KeyError, AttributeError: if the metadata is damaged.
        """
        if not metadata or "label_values" not in metadata:
            return None
        names = {int(value): name for value, name in metadata["label_values"].items()}
        ignored = frozenset(int(value) for value in metadata["ignored_label_values"])
        if (
            not names
            or not all(map(is_class_name, names.values()))
            or not set(names).isdisjoint(ignored)
            or not all(0 <= value <= 255 for value in (*names, *ignored))
        ):
            raise ValueError(f"label_values {json.dumps(metadata['label_values'])}")
        return cls(names, ignored)


# The Cityscapes ids that are classes; the benchmark evaluates 19 of them, listed in the label set
# cityscapes_19. Licence plates are -1 in Cityscapes, 34 in GTA5. Datasets without their own table
# have these values. 0 to 3: unlabeled, ego vehicle, rectification border, out of roi.
CITYSCAPES_TABLE = LabelTable(
    {
        4: "static", 5: "dynamic", 6: "ground", 7: "road", 8: "sidewalk", 9: "parking",
        10: "rail track", 11: "building", 12: "wall", 13: "fence", 14: "guard rail", 15: "bridge",
        16: "tunnel", 17: "pole", 18: "polegroup", 19: "traffic light", 20: "traffic sign",
        21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car",
        27: "truck", 28: "bus", 29: "caravan", 30: "trailer", 31: "train", 32: "motorcycle",
        33: "bicycle", 34: "license plate",
    },
    ignored=frozenset({0, 1, 2, 3, IGNORE_LABEL}),
)  # fmt: skip
CITYSCAPES_ID_BY_NAME: Mapping[str, int] = {
    name: value for value, name in CITYSCAPES_TABLE.names.items()
}


@dataclasses.dataclass(frozen=True)
class LabelClass:
    """One class of a label set.

    Attributes:
      name: name of the class; dataset classes of this name become it.
      label_id: value in files of predictions, 0 to 255.
      colour: red, green and blue, 0 to 255.
      includes: names of further dataset classes that become this class.
    """

    name: str
    label_id: int
    colour: tuple[int, int, int]
    includes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class LabelSet:
    """The classes of a run, in the order of their train ids.

    Attributes:
      name: name in messages.
      classes: 2 to 255 classes.
      reports: key of a mean in summaries, "mean_iou_...", -> names of the classes it averages.
      no_class: label id of pixels without a class.
      prediction_suffix: suffix of the file names of predictions, before ".png".
    """

    name: str
    classes: tuple[LabelClass, ...]
    reports: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    no_class: int = IGNORE_LABEL
    prediction_suffix: str = ""

    @classmethod
    def from_fields(cls, fields: label_files.Fields) -> Self:
        """Creates a label set from the checked fields of a file (`label_files.read`)."""
        includes = fields["includes"]
        classes = tuple(
            LabelClass(
                entry["name"],
                entry["id"],
                tuple(entry["colour"]),
                tuple(includes.get(entry["name"], ())),
            )
            for entry in fields["classes"]
        )
        reports = {key: tuple(names) for key, names in fields["reports"].items()}
        return cls(
            fields["name"], classes, reports, fields["no_class"], fields["prediction_suffix"]
        )

    def to_fields(self) -> label_files.Fields:
        """Returns the fields of a file that holds this label set."""
        return {
            "name": self.name,
            "classes": [
                {"name": c.name, "id": c.label_id, "colour": list(c.colour)} for c in self.classes
            ],
            "includes": {c.name: list(c.includes) for c in self.classes if c.includes},
            "reports": {key: list(names) for key, names in self.reports.items()},
            "no_class": self.no_class,
            "prediction_suffix": self.prediction_suffix,
        }

    @property
    def num_classes(self) -> int:
        """Number of classes, C."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of train ids."""
        return tuple(c.name for c in self.classes)

    @functools.cached_property
    def train_id_by_name(self) -> Mapping[str, int]:
        """Name of a dataset's class -> train id of the class that it becomes."""
        return {
            name: train_id
            for train_id, c in enumerate(self.classes)
            for name in (c.name, *c.includes)
        }

    @functools.cached_property
    def to_label_ids(self) -> np.ndarray:
        """[256] uint8: train id -> label id; every other value -> `no_class`."""
        table = np.full(256, self.no_class, np.uint8)
        table[: self.num_classes] = [c.label_id for c in self.classes]
        return table

    @functools.cached_property
    def ignored_colour(self) -> tuple[int, int, int]:
        """Colour of pixels without a class: black, unless a class is nearly black.

        Then grey; if a class is near that too, the colour of a grid that is farthest from all.
        """
        colours = np.array([c.colour for c in self.classes])

        def distance(colour: tuple[int, ...]) -> float:
            return float(np.linalg.norm(colours - np.array(colour), axis=1).min())

        for colour in (_BLACK, _GREY):
            if distance(colour) > _NEAR_COLOUR:
                return colour
        levels = (0, 64, 128, 192, 255)
        return max(itertools.product(levels, levels, levels), key=distance)

    @functools.cached_property
    def palette(self) -> np.ndarray:
        """[256, 3] uint8 RGB: train id -> colour; every other value -> `ignored_colour`."""
        palette = np.full((256, 3), self.ignored_colour, np.uint8)
        palette[: self.num_classes] = [c.colour for c in self.classes]
        return palette

    def map_table(self, table: LabelTable) -> np.ndarray:
        """Maps a dataset's label values to train ids, by class name.

        Returns:
          [256] uint8: value -> train id; IGNORE_LABEL where the label set names no such class.
        """
        train_ids = np.full(256, IGNORE_LABEL, np.uint8)
        for value, name in table.names.items():
            train_ids[value] = self.train_id_by_name.get(name, IGNORE_LABEL)
        return train_ids

    def colourise(self, train_ids: np.ndarray) -> np.ndarray:
        """Paints train ids (any shape, 0..255) with the palette: [..., 3] uint8 RGB."""
        return self.palette[np.asarray(train_ids, np.uint8)]

    def indices(self, names: Sequence[str]) -> np.ndarray:
        """Returns the train ids of the named classes."""
        return np.array([self.names.index(name) for name in names])

    def partial_reports(self) -> tuple[str, ...]:
        """Lists the reports that leave out a class, and so differ from the mean IoU."""
        return tuple(key for key, names in self.reports.items() if len(names) < self.num_classes)


_FOLDER = importlib.resources.files("alp_jax.data") / "label_sets"


@functools.cache
def list_label_sets() -> tuple[str, ...]:
    """Lists the names of the label sets that come with the package."""
    found = (pathlib.PurePath(entry.name) for entry in _FOLDER.iterdir())
    return tuple(sorted(path.stem for path in found if path.suffix in label_files.ENDINGS))


def is_label_set_name(value: object) -> bool:
    """Returns whether a value names a label set of the package or could be a file's path."""
    is_path = isinstance(value, str) and value.endswith(label_files.ENDINGS)
    return is_path or value in list_label_sets()


def load_label_set(name_or_path: str | os.PathLike[str]) -> LabelSet:
    """Loads a label set, reading an unchanged file only once.

    Args:
      name_or_path: one of `list_label_sets`, such as "cityscapes_19", or the path of a YAML file,
        which may be relative to the working directory.
    Raises:
      UserError: if it does not exist or its file is faulty; the message names the fault.
    """
    name = os.fspath(name_or_path)
    if not is_label_set_name(name):
        near = find_near(name, list_label_sets())
        raise UserError(
            f"There is no label set {name!r}: expected one of "
            f"{', '.join(list_label_sets())}, or the path of a file that ends in .yaml; "
            f"{f'did you mean {near}? ' if near else ''}set config.data.label_set."
        )
    if name in list_label_sets():
        with importlib.resources.as_file(_FOLDER / f"{name}.yaml") as path:
            return _read(path, ())
    path = pathlib.Path(name).expanduser()
    stat = path.stat() if path.is_file() else None
    return _read(path, stat and (path.resolve(), stat.st_mtime_ns, stat.st_size))


@functools.cache
def _read(path: pathlib.Path, _stamp: object) -> LabelSet:
    return LabelSet.from_fields(label_files.read(path))
