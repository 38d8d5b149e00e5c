r"""Pairs the images and labels of a dataset by patterns, and compares with published counts.

Synopsis:

  layout = PatternLayout(
      name="all",
      splits={"train": Split(published=24_966, first_number=1)},
      image=r"images/(?P<name>\d{5})\.png",
      label=r"labels/(?P<name>\d{5})\.png",
      read_label=functools.partial(labels.read_indices, table=GTA5),
      expected="images/NNNNN.png and labels/NNNNN.png",
  )
  selection = layout.select(RawFiles(raw_dir))
  selection.pairs["train"][0]    # Pair(name="00001", image=RawFile(...), label=RawFile(...))
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from alp_jax.data import walk
from alp_jax.data.intensity import Intensity
from alp_jax.data.labels import LabelTable
from alp_jax.errors import UserError, shorten
from data_prep.common.text import count
from data_prep.raw.files import RawFile, RawFiles

# The bytes of a label file -> [H, W] uint8 stored values; raises FaultError.
LabelReader = Callable[[bytes], np.ndarray]


class MapReader(abc.ABC):
    """A LabelReader that goes by a user's label map, and tells which of its keys it has met.

    Attributes:
        table: classes of the stored values; None: they are Cityscapes label ids.
    """

    table: LabelTable | None

    @property
    @abc.abstractmethod
    def meanings(self) -> Mapping[str, str]:
        """Value, colour or name, or "default" -> class or "ignore", as the user's map says."""

    @abc.abstractmethod
    def read_with_keys(self, data: bytes) -> tuple[np.ndarray, frozenset[str]]:
        """Reads a label file.

        Returns:
            ([H, W] uint8 stored values, the keys of the map that the file holds).
        Raises:
            FaultError: if it cannot be read exactly, or holds something that the map does not name.
        """

    def __call__(self, data: bytes) -> np.ndarray:
        """Reads a label file: [H, W] uint8 stored values."""
        return self.read_with_keys(data)[0]


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How image files are decoded, and how their labels must fit.

    Attributes:
        upright: whether to rotate images by their EXIF orientation. Images of published datasets
            are not rotated, like their labels.
        label_orientation: what labels without an own EXIF orientation fit: the "upright" image, or
            the pixels that are "stored" in its file; None: only what the sizes tell.
        intensity: how 16 bits become 8; None: they do only where nothing is lost.
        any_proportions: whether a label may have other proportions than its image, as some
            published ones have.
    """

    upright: bool = False
    label_orientation: str | None = None
    intensity: Intensity | None = None
    any_proportions: bool = True


REPLACE = "replace it"


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and, if its record has one, its label."""

    name: str
    image: RawFile
    label: RawFile | None


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault of one raw file.

    Attributes:
        kind: heading under which faults of one kind are listed.
        file: the file.
        reason: completes a sentence that begins with the file.
        values: unknown label value -> number of pixels with it.
        remedy: what to do, in words.
    """

    kind: str
    file: str
    reason: str
    values: Mapping[str, int] = dataclasses.field(default_factory=dict)
    remedy: str = REPLACE


class FaultError(Exception):
    """A file that is read has a fault; kind, reason, values and remedy are as in Fault."""

    def __init__(
        self,
        kind: str,
        reason: str,
        values: Mapping[str, int] | None = None,
        *,
        remedy: str = REPLACE,
    ) -> None:
        super().__init__(f"{kind}: {reason}")
        self.kind, self.reason, self.values, self.remedy = kind, reason, values or {}, remedy

    def of(self, file: object) -> Fault:
        """Returns the fault of a file."""
        return Fault(self.kind, str(file), self.reason, self.values, self.remedy)


class NothingFoundError(UserError):
    """The raw folder has no image, or no label, for a configuration."""


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a raw dataset.

    Attributes:
        folder: replaces {split} in the patterns.
        published: published number of pairs; None if unknown.
        first_number: the first name, if names are consecutive numbers; else None.
    """

    folder: str = ""
    published: int | None = None
    first_number: int | None = None

    def describe_count(self, split: str, names: Sequence[str]) -> str:
        """Describes how many images a split has, how many are published, and which are missing."""
        size = f"{split} has {count(len(names), 'image')}"
        if self.published is None:
            return size
        if self.published == len(names):
            return f"{size}, as published"
        missing = ""
        if self.first_number is not None and names:
            there, width = {int(name) for name in names}, len(names[0])
            numbers = range(self.first_number, self.first_number + self.published)
            absent = [f"{number:0{width}d}" for number in numbers if number not in there]
            missing = f" (not there: {shorten(absent)})" if absent else ""
        return f"{size}, but {self.published:,} are published{missing}"


@dataclasses.dataclass
class Selection:
    """Pairs of raw files for one configuration.

    Attributes:
        pairs: split -> its pairs, in the order of their names; without missing splits.
        faults: images without label, labels without image, what cannot be read.
        notes: messages for the user: the size of each split, splits that are left out.
        remedy: what to do about the faults; by default, to add what is missing.
    """

    pairs: dict[str, list[Pair]]
    faults: list[Fault] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    remedy: str = "add what is missing"

    def check_partners(self) -> None:
        """Refuses images without label, labels without image, and what cannot be read.

        Raises:
            UserError: if there is one.
        """
        if self.faults:
            kinds = sorted({fault.kind for fault in self.faults})
            texts = []
            for kind in kinds:
                files = [fault.file for fault in self.faults if fault.kind == kind]
                texts.append(f"{kind}: {len(files):,} ({shorten(files)})")
            more = "; --check lists all, and --skip_bad leaves these out"
            if not any(self.pairs.values()):  # Nothing would be left.
                more = ", as no image has a label"
            remedies = [self.remedy if f.remedy == REPLACE else f.remedy for f in self.faults]
            remedy = ", and ".join(dict.fromkeys(remedies))
            raise UserError(f"There are {' and '.join(texts)}: {remedy}{more}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """Finds the files of one configuration, and knows how to read its labels.

    Attributes:
        name: name of the configuration.
        expected: the files that a raw folder should hold, in words.
        read_label: reads a label file; None for a configuration of images only.
        table: classes of the stored values; None: they are Cityscapes label ids.
        decoding: how images are decoded.
        meanings: value or colour -> class, as a user's label map says; empty without one.
        assumes_label_ids: whether nobody said that the values are Cityscapes label ids.
        takes_label_map: whether the command has --label_map.
    """

    name: str
    expected: str
    read_label: LabelReader | None = None
    table: LabelTable | None = None
    decoding: Decoding = Decoding()
    meanings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    assumes_label_ids: bool = False
    takes_label_map: bool = False

    @property
    def has_label(self) -> bool:
        """Whether the records have labels."""
        return self.read_label is not None

    def select(self, files: RawFiles) -> Selection:
        """Finds the pairs of each split.

        Raises:
            NothingFoundError: if no split is found.
        """
        raise NotImplementedError

    def nothing_found(self, files: RawFiles) -> NothingFoundError:
        """Creates the error about a folder without the expected files."""
        others = [str(file) for file in files.others()]
        parts = [f"{count(len(others), 'other file')} ({shorten(others, 3)})"] if others else []
        parts += walk.count_passed_over(files.passed_over)
        found = "; ".join(parts) or "nothing"
        return NothingFoundError(
            f"{files.root} has nothing for configuration {self.name}: expected {self.expected}, or "
            f"the zip files that hold them, but found {found}."
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatternLayout(Layout):
    """A layout that finds files by their paths.

    Attributes:
        splits: TFDS split -> its raw folder and published count.
        image, label: patterns of the end of a path, with a group `name`, and {split} for the raw
            folder of a split; an image and a label with the same name are a pair.
    """

    splits: Mapping[str, Split]
    image: str
    label: str = ""

    def select(self, files: RawFiles) -> Selection:
        """Finds the pairs; a split without any image or any label is left out with a note."""
        selection = Selection({})
        for name, split in self.splits.items():
            images = files.find(self.image.replace("{split}", split.folder))
            labels = None
            if self.has_label:
                labels = files.find(self.label.replace("{split}", split.folder))
            if not images or labels == {}:
                what = "labels" if images else "images"
                selection.notes.append(f"{name} is left out, because its {what} are not there")
                continue
            pairs, faults = match(images, labels)
            selection.notes.append(split.describe_count(name, [pair.name for pair in pairs]))
            selection.faults += faults
            if pairs:
                selection.pairs[name] = pairs
        if not selection.pairs:
            selection.check_partners()  # a clearer error, if only the names do not match
            raise self.nothing_found(files)
        return selection


def match(
    images: Mapping[str, RawFile], labels: Mapping[str, RawFile] | None
) -> tuple[list[Pair], list[Fault]]:
    """Pairs images with the labels of the same name; without labels, every image is alone."""
    if labels is None:
        return [Pair(name, image, None) for name, image in images.items()], []
    pairs = [Pair(name, images[name], labels[name]) for name in images if name in labels]
    no_label = [str(image) for name, image in images.items() if name not in labels]
    no_image = [str(label) for name, label in labels.items() if name not in images]
    faults = [Fault("images without label", file, "has no label") for file in no_label]
    faults += [Fault("labels without image", file, "has no image") for file in no_image]
    return pairs, faults
