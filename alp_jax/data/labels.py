"""Classes of the street-scene datasets: names, ids, palette, label sets and maps.

Synopsis:

  label_ids = labels.SYNTHIA.to_cityscapes_ids[values]    # what data_prep does, once
  label_set = labels.LABEL_SETS[16]
  train_ids = label_set.from_cityscapes_ids[label_ids]    # uint8 -> uint8, while training
  label_ids = label_set.to_cityscapes_ids[train_ids]      # of a prediction that is to be submitted
  colours = label_set.colourise(train_ids)                # [..., 3] uint8 RGB

A prepared dataset holds Cityscapes label ids, whatever the raw one held. Facts: the Cityscapes
benchmark's 19 evaluated classes; the 16 that SYNTHIA shares with them; and the 13 of those left
when wall, fence and pole are excluded (Cicek et al., ACCV 2020, section 4.1).
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

IGNORE_LABEL = 255


@dataclasses.dataclass(frozen=True)
class SceneClass:
    """One evaluated class: its name, its Cityscapes label id and its palette colour (RGB)."""

    name: str
    cityscapes_id: int
    colour: tuple[int, int, int]


CITYSCAPES_CLASSES: tuple[SceneClass, ...] = (
    SceneClass("road", 7, (128, 64, 128)),
    SceneClass("sidewalk", 8, (244, 35, 232)),
    SceneClass("building", 11, (70, 70, 70)),
    SceneClass("wall", 12, (102, 102, 156)),
    SceneClass("fence", 13, (190, 153, 153)),
    SceneClass("pole", 17, (153, 153, 153)),
    SceneClass("traffic light", 19, (250, 170, 30)),
    SceneClass("traffic sign", 20, (220, 220, 0)),
    SceneClass("vegetation", 21, (107, 142, 35)),
    SceneClass("terrain", 22, (152, 251, 152)),
    SceneClass("sky", 23, (70, 130, 180)),
    SceneClass("person", 24, (220, 20, 60)),
    SceneClass("rider", 25, (255, 0, 0)),
    SceneClass("car", 26, (0, 0, 142)),
    SceneClass("truck", 27, (0, 0, 70)),
    SceneClass("bus", 28, (0, 60, 100)),
    SceneClass("train", 31, (0, 80, 100)),
    SceneClass("motorcycle", 32, (0, 0, 230)),
    SceneClass("bicycle", 33, (119, 11, 32)),
)
CITYSCAPES_ID_BY_NAME: Mapping[str, int] = {c.name: c.cityscapes_id for c in CITYSCAPES_CLASSES}
# Cityscapes' other ids, which no label set evaluates. Licence plates are -1 there, 34 in GTA5.
CITYSCAPES_VOID: dict[int, str] = {
    0: "unlabeled", 1: "ego vehicle", 2: "rectification border", 3: "out of roi", 4: "static",
    5: "dynamic", 6: "ground", 9: "parking", 10: "rail track", 14: "guard rail", 15: "bridge",
    16: "tunnel", 18: "polegroup", 29: "caravan", 30: "trailer", 34: "license plate",
}  # fmt: skip
UNLABELED_ID = 0

# [256] bool: the values that a prepared label image may hold: ids 0 to 34, and 255.
IS_CITYSCAPES_ID = np.isin(np.arange(256), [*range(35), IGNORE_LABEL])


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """What the values in the label files of one raw dataset mean.

    Attributes:
      names: value -> the dataset's own name for it; any other value is an error.
      ids: value -> Cityscapes label id.
    """

    names: Mapping[int, str]
    ids: Mapping[int, int]

    @functools.cached_property
    def is_known(self) -> np.ndarray:
        """[256] bool: the values that a label file may hold."""
        return np.isin(np.arange(256), list(self.names))

    @functools.cached_property
    def to_cityscapes_ids(self) -> np.ndarray:
        """[256] uint8: value -> Cityscapes label id; IGNORE_LABEL for an unknown value."""
        table = np.full(256, IGNORE_LABEL, np.uint8)
        for value, label_id in self.ids.items():
            table[value] = label_id
        return table


def _table_by_name(names: Mapping[int, str], renamed: Mapping[str, str]) -> LabelTable:
    """A table whose names are those of Cityscapes' classes but for some; others are unlabeled."""
    ids = CITYSCAPES_ID_BY_NAME
    return LabelTable(
        names,
        {value: ids.get(renamed.get(name, name), UNLABELED_ID) for value, name in names.items()},
    )


_CITYSCAPES_NAMES = CITYSCAPES_VOID | {c.cityscapes_id: c.name for c in CITYSCAPES_CLASSES}
# GTA5's labels (palette index) and Cityscapes' own; the latter also allow 255, as -1 is stored.
GTA5 = LabelTable(_CITYSCAPES_NAMES, {value: value for value in _CITYSCAPES_NAMES})
CITYSCAPES = LabelTable(
    {**_CITYSCAPES_NAMES, IGNORE_LABEL: "license plate"},
    {**GTA5.ids, IGNORE_LABEL: IGNORE_LABEL},
)
# SYNTHIA-RAND-CITYSCAPES, first channel of its 16-bit labels. Lane marking is ignored, as in CLAN
# and DADA; CRST trains it as road.
_SYNTHIA_NAMES = (
    "void", "sky", "building", "road", "sidewalk", "fence", "vegetation", "pole", "car",
    "traffic sign", "pedestrian", "bicycle", "motorcycle", "parking slot", "road work",
    "traffic light", "terrain", "rider", "truck", "bus", "train", "wall", "lane marking",
)  # fmt: skip
_SYNTHIA_RENAMED = {"pedestrian": "person"}
SYNTHIA = _table_by_name(dict(enumerate(_SYNTHIA_NAMES)), _SYNTHIA_RENAMED)
SYNTHIA_LANES_ARE_ROAD = _table_by_name(
    dict(enumerate(_SYNTHIA_NAMES)), {**_SYNTHIA_RENAMED, "lane marking": "road"}
)
# BDD100K's semantic segmentation: the train ids of the 19 classes.
BDD100K = _table_by_name(
    {**{i: c.name for i, c in enumerate(CITYSCAPES_CLASSES)}, IGNORE_LABEL: "unlabeled"}, {}
)

_NOT_IN_SYNTHIA = ("terrain", "truck", "train")
_NOT_IN_THE_13 = ("wall", "fence", "pole")


@dataclasses.dataclass(frozen=True)
class LabelSet:
    """The classes of one experiment, in train-id order."""

    classes: tuple[SceneClass, ...]

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in train-id order."""
        return tuple(c.name for c in self.classes)

    @functools.cached_property
    def from_cityscapes_ids(self) -> np.ndarray:
        """[256] uint8: Cityscapes label id -> train id; ids outside the set -> IGNORE_LABEL."""
        table = np.full(256, IGNORE_LABEL, np.uint8)
        for train_id, scene_class in enumerate(self.classes):
            table[scene_class.cityscapes_id] = train_id
        return table

    @functools.cached_property
    def to_cityscapes_ids(self) -> np.ndarray:
        """[256] uint8: train id -> Cityscapes label id; every other value -> UNLABELED_ID."""
        table = np.full(256, UNLABELED_ID, np.uint8)
        for train_id, scene_class in enumerate(self.classes):
            table[train_id] = scene_class.cityscapes_id
        return table

    @functools.cached_property
    def palette(self) -> np.ndarray:
        """[256, 3] uint8 RGB: train id -> colour; every other value is black."""
        palette = np.zeros((256, 3), np.uint8)
        for train_id, scene_class in enumerate(self.classes):
            palette[train_id] = scene_class.colour
        return palette

    def colourise(self, train_ids: np.ndarray) -> np.ndarray:
        """Paints train ids (any shape, 0..255) with the palette: [..., 3] uint8 RGB."""
        return self.palette[np.asarray(train_ids, np.uint8)]

    def subset_indices(self, names: Sequence[str]) -> np.ndarray | None:
        """Train ids of the named classes, or None when one of them is not in this set."""
        index = {name: i for i, name in enumerate(self.names)}
        if not all(name in index for name in names):
            return None
        return np.array([index[name] for name in names])


LABEL_SETS: Mapping[int, LabelSet] = {
    19: LabelSet(CITYSCAPES_CLASSES),
    16: LabelSet(tuple(c for c in CITYSCAPES_CLASSES if c.name not in _NOT_IN_SYNTHIA)),
    13: LabelSet(
        tuple(c for c in CITYSCAPES_CLASSES if c.name not in _NOT_IN_SYNTHIA + _NOT_IN_THE_13)
    ),
}
