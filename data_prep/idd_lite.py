"""Prepares IDD-Lite (Mishra et al., NCVPRIPG 2019): street scenes of India, 7 classes.

Synopsis:

  python -m data_prep.idd_lite --raw_dir=downloads/idd20k_lite --data_dir=datasets --size=180,240
  python -m data_prep.idd_lite --raw_dir=downloads/idd20k_lite --check

A drive is a folder of frames of one video; no drive is in two splits.
"""

import dataclasses
import functools
from typing import Any, ClassVar

from alp_jax.data.labels import IGNORE_LABEL, LabelTable
from data_prep.raw import cli
from data_prep.raw.builder import RawBuilder, RawConfig, make_config
from data_prep.raw.files import RawFiles
from data_prep.raw.labels import read_indices
from data_prep.raw.layout import PatternLayout, Selection, Split, count
from data_prep.raw.tables import RawTable

# The ids of level 1 of IDD's hierarchy (helpers/anue_labels.py of AutoNUE/public-code).
_NAMES = dict(
    enumerate(
        ["drivable", "non-drivable", "living things", "vehicles", "roadside objects",
         "far objects", "sky"]
    )
)  # fmt: skip
TABLE = LabelTable(_NAMES)
_VALUES = RawTable(
    {**_NAMES, IGNORE_LABEL: "void"}, {value: value for value in (*_NAMES, IGNORE_LABEL)}
)

_IMAGE = r"leftImg8bit/{split}/(?P<name>\d+/[^/]+)_image\.jpg"
_EXPECTED_IMAGES = "leftImg8bit/{train,val,test}/DRIVE/ID_image.jpg"
_TRAIN, _VALIDATION = Split("train", 1_403), Split("val", 204)
_PUBLISHED = "published validation"
_FIELDS: dict[str, Any] = {
    "expected": f"{_EXPECTED_IMAGES} and gtFine/{{train,val}}/DRIVE/ID_label.png",
    "image": _IMAGE,
    "label": r"gtFine/{split}/(?P<name>\d+/[^/]+)_label\.png",
    "read_label": functools.partial(read_indices, table=_VALUES),
    "table": TABLE,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ByDriveLayout(PatternLayout):
    """Divides the published validation frames: drives of odd number, and of even number."""

    def select(self, files: RawFiles) -> Selection:
        """Finds all pairs, then makes validation and test of the published validation frames."""
        selection = super().select(files)
        frames = selection.pairs.pop(_PUBLISHED, [])
        for split, remainder in (("validation", 1), ("test", 0)):
            chosen = [pair for pair in frames if _drive(pair.name) % 2 == remainder]
            drives = {_drive(pair.name) for pair in chosen}
            kind = "odd" if remainder else "even"
            selection.notes.append(
                f"{split} has {count(len(chosen), 'image')} of these, of "
                f"{count(len(drives), 'drive')} of {kind} number"
            )
            if chosen:
                selection.pairs[split] = chosen
        return selection


def _drive(name: str) -> int:
    return int(name.partition("/")[0])


LABELLED = PatternLayout(
    name="labelled", splits={"train": _TRAIN, "validation": _VALIDATION}, **_FIELDS
)
BY_DRIVE = ByDriveLayout(
    name="by_drive", splits={"train": _TRAIN, _PUBLISHED: _VALIDATION}, **_FIELDS
)
UNLABELLED = PatternLayout(
    name="unlabelled",
    expected=_EXPECTED_IMAGES,
    splits={"train": _TRAIN, "test": Split("test")},
    image=_IMAGE,
)
LAYOUTS = (LABELLED, BY_DRIVE, UNLABELLED)


class IddLite(RawBuilder):
    """Prepares IDD-Lite: `labelled` and `by_drive`, and `unlabelled`, which adaptation trains on.

    python -m data_prep.idd_lite --raw_dir=downloads/idd20k_lite --data_dir=datasets
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = LABELLED.expected
    BUILDER_CONFIGS: ClassVar[list[RawConfig]] = [make_config(layout) for layout in LAYOUTS]


COMMAND = cli.Command(
    builder=IddLite, layouts=LAYOUTS, default=tuple(layout.name for layout in LAYOUTS)
)

if __name__ == "__main__":
    cli.run("data_prep.idd_lite")
