"""Declares the meaning of the values in the label files of published datasets.

Synopsis:

  label_ids = SYNTHIA.to_stored[values]    # stored values: Cityscapes label ids

The datasets whose tables are here are stored with Cityscapes label ids, the values of any dataset
without its own table (alp_jax.data.labels.CITYSCAPES_TABLE). A dataset with classes of its own has
its table in its own module.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from alp_jax.data.labels import CITYSCAPES_ID_BY_NAME, IGNORE_LABEL, load_label_set

UNLABELED_ID = 0


@dataclasses.dataclass(frozen=True)
class RawTable:
    """Meaning of the values in the label files of a raw dataset.

    Attributes:
      names: value -> the dataset's own name for it; any other value is an error.
      stored: value -> stored value.
    """

    names: Mapping[int, str]
    stored: Mapping[int, int]

    @functools.cached_property
    def is_known(self) -> np.ndarray:
        """[256] bool: whether a label file may hold the value."""
        return np.isin(np.arange(256), list(self.names))

    @functools.cached_property
    def to_stored(self) -> np.ndarray:
        """[256] uint8: value -> stored value; IGNORE_LABEL for an unknown value."""
        table = np.full(256, IGNORE_LABEL, np.uint8)
        for value, stored in self.stored.items():
            table[value] = stored
        return table


_EVALUATED = load_label_set("cityscapes_19").names


def _match_names(names: Mapping[int, str], renamed: Mapping[str, str]) -> RawTable:
    """Creates a table that stores Cityscapes' ids of the 19 classes, and unlabeled for all others.

    Args:
      names: value -> the dataset's own name.
      renamed: own name -> Cityscapes' name, if they differ.
    """
    ids = {name: CITYSCAPES_ID_BY_NAME[name] for name in _EVALUATED}
    stored = {
        value: ids.get(renamed.get(name, name), UNLABELED_ID) for value, name in names.items()
    }
    return RawTable(names, stored)


_CITYSCAPES_NAMES = {
    0: "unlabeled", 1: "ego vehicle", 2: "rectification border", 3: "out of roi",
    **{label_id: name for name, label_id in CITYSCAPES_ID_BY_NAME.items()},
}  # fmt: skip
# Labels of GTA5 (palette index) and Cityscapes; the latter also allow 255, which stands for -1.
GTA5 = RawTable(_CITYSCAPES_NAMES, {value: value for value in _CITYSCAPES_NAMES})
CITYSCAPES = RawTable(
    {**_CITYSCAPES_NAMES, IGNORE_LABEL: "license plate"},
    {**GTA5.stored, IGNORE_LABEL: IGNORE_LABEL},
)
# SYNTHIA-RAND-CITYSCAPES, first channel of its 16-bit labels. Lane marking is ignored, as in CLAN
# and DADA; CRST trains it as road.
_SYNTHIA_NAMES = (
    "void", "sky", "building", "road", "sidewalk", "fence", "vegetation", "pole", "car",
    "traffic sign", "pedestrian", "bicycle", "motorcycle", "parking slot", "road work",
    "traffic light", "terrain", "rider", "truck", "bus", "train", "wall", "lane marking",
)  # fmt: skip
_SYNTHIA_RENAMED = {"pedestrian": "person"}
SYNTHIA = _match_names(dict(enumerate(_SYNTHIA_NAMES)), _SYNTHIA_RENAMED)
SYNTHIA_LANES_ARE_ROAD = _match_names(
    dict(enumerate(_SYNTHIA_NAMES)), {**_SYNTHIA_RENAMED, "lane marking": "road"}
)
# BDD100K's semantic segmentation: the train ids of the 19 classes.
BDD100K = _match_names({**dict(enumerate(_EVALUATED)), IGNORE_LABEL: "unlabeled"}, {})
