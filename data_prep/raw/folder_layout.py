"""Finds a user's own images, with labels or without, or frames of videos."""

import dataclasses
import pathlib

from alp_jax.data.class_names import find_near
from alp_jax.data.labels import LabelTable, load_label_set
from alp_jax.errors import UserError, shorten
from data_prep.raw import unreadable, videos
from data_prep.raw.files import RawFiles
from data_prep.raw.layout import Fault, Layout, Pair, Selection, Split
from data_prep.raw.name_pairs import (
    EXAMPLES,
    SAME_NAMES,
    SAME_NAMES_SHAPES,
    SHAPES,
    Paired,
    PairRule,
)
from data_prep.raw.pair_proposals import propose


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderLayout(Layout):
    """Takes every image of a folder, in one split; its name is its path without the ending.

    Attributes:
        split: split of all images.
        labels_dir: folder of the labels, which may be that of the images. None for images only.
        rule: how the names of images and labels go together.
        every: which frames of videos to take: every Nth. None: videos are not read.
    """

    split: str
    labels_dir: pathlib.Path | None = None
    rule: PairRule = SAME_NAMES
    every: int | None = None

    def select(self, files: RawFiles) -> Selection:
        """Finds the images and their labels.

        Raises:
            UserError: if there is no image or no label, or two files have the same name.
        """
        labels = None
        if self.labels_dir is not None:
            root = self.labels_dir.expanduser()
            labels = files if root.resolve() == files.root.resolve() else RawFiles(root)
        paired = self.rule.pair(files, labels)
        self._check_found(paired, files, labels)
        selection = Selection({}, paired.faults)
        pairs = paired.pairs
        if self.every is not None:
            pairs = self._add_frames(files, selection, pairs)
        if selection.faults and labels is not None:
            selection.remedy = self._find_remedy(paired)
        if not pairs:
            selection.check_partners()
            raise self.nothing_found(files)
        selection.pairs[self.split] = pairs
        selection.faults += self._find_unreadable(files, labels, paired)
        size = Split().describe_count(self.split, [pair.name for pair in pairs])
        selection.notes += [size, *self._describe_others(files, labels)]
        if labels is None and paired.labels:
            selection.notes.append(
                f"labels, which are not read without --labels: {len(paired.labels):,}"
            )
        if selection.faults and labels is not None:
            selection.notes.append(selection.remedy)
        selection.notes += [] if self.table is None else describe_classes(self.table)
        return selection

    def _find_unreadable(
        self, files: RawFiles, labels: RawFiles | None, paired: Paired
    ) -> list[Fault]:
        """Lists images of kinds that are not read, and what in the labels' folder cannot be."""
        faults = []
        if len(self.rule.image.endings) > 1:  # Otherwise the user wants one kind only.
            # A camera may store an image twice: as a raw file and as JPEG.
            faults += unreadable.find_images(
                files,
                lambda name: name not in paired.images and self.rule.image.split(name) is not None,
            )
        if labels is not None and labels is not files:
            faults += unreadable.find_faults(labels, f"{labels.root}/")
        return faults

    def _check_found(self, paired: Paired, files: RawFiles, labels: RawFiles | None) -> None:
        """Refuses folders in which nothing is an image, or nothing a label.

        Raises:
            UserError: if that is so.
        """
        sides = [("image", str(self.rule.image), paired.images, files)]
        if labels is not None:
            sides.append(("label", str(self.rule.label), paired.labels, labels))
        for side, pattern, found, folder in sides:
            if found or (side == "image" and self.every is not None):
                continue
            if self.rule in (SAME_NAMES, SAME_NAMES_SHAPES):
                raise self.nothing_found(folder)
            others = [str(file) for file in folder.others()]
            there = f"it has {shorten(others, 3)}" if others else "all its files are of the other"
            raise UserError(
                f"No file in {folder.root} fits the {side} side of --pairs, {pattern}: {there}; "
                f"write patterns such as {EXAMPLES}."
            )

    def _add_frames(self, files: RawFiles, selection: Selection, pairs: list[Pair]) -> list[Pair]:
        assert self.every is not None
        if not videos.is_listed(files):
            raise UserError(
                f"every is {self.every}, but {files.root} has no video: leave it out, or give "
                "--images a video or a folder with videos."
            )
        frames, faults = videos.find_frames(files, self.every)
        for pair in pairs:
            if pair.name in frames:
                raise UserError(
                    f"{pair.image} and {frames[pair.name]} would have the same name, {pair.name}: "
                    "rename or remove one."
                )
        selection.faults += faults
        selection.remedy = "take whole videos"
        found = [*pairs, *(Pair(name, frame, None) for name, frame in frames.items())]
        return sorted(found, key=lambda pair: pair.name)

    def _find_remedy(self, paired: Paired) -> str:
        """Says what to do about images and labels without partner."""
        if self.rule not in (SAME_NAMES, SAME_NAMES_SHAPES):
            return "mend --pairs or add what is missing"
        whole = {pair.name for pair in paired.pairs}
        images, labels = (
            [name for name in names if name not in whole]
            for names in (paired.images, paired.labels)
        )
        ending = "" if self.rule == SAME_NAMES else f".{SHAPES}"
        proposals = propose(images, labels, ending) if images and labels else []
        if proposals:
            return f"give {' or '.join(proposals)}, if that is how their names go together"
        if images and labels:
            return f"say how their names go together, such as {EXAMPLES}, or add what is missing"
        return "add what is missing"

    def _describe_others(self, files: RawFiles, labels: RawFiles | None) -> list[str]:
        """Lists files in the folder of labels that are none, and videos that are not read."""
        notes = []
        if labels is not None and labels is not files:
            rest = labels.describe_rest()
            notes += [f"in {labels.root}: {line.removesuffix('.')}" for line in rest]
        if self.every is None and labels is None and videos.is_listed(files):
            notes.append("its videos are not read: --every=N takes every Nth frame of them")
        return notes


def describe_classes(table: LabelTable) -> list[str]:
    """Describes the classes of a label map, and lists names that are nearly Cityscapes' names."""
    values = ", ".join(f"{name} ({value})" for value, name in sorted(table.names.items()))
    notes = [f"its classes and the values that are stored for them are {values}"]
    published = load_label_set("cityscapes_19").names
    near = {name: find_near(name, published, similarity=0.85) for name in table.class_names}
    differing = [f"{name} ({near[name]})" for name in near if near[name] not in (None, name)]
    if differing:
        notes.append(
            f"{', '.join(differing)}: nearly the names of Cityscapes in brackets, which the label "
            "sets cityscapes_19, _16 and _13 have; only names that are exactly the same match"
        )
    return notes
