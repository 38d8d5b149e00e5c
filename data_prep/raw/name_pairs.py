r"""Pairs images with labels whose names go together by a rule that the user writes.

Synopsis:

  rule = parse_pairs("*_leftImg8bit:*_gtFine_labelIds")
  paired = rule.pair(images, labels)    # RawFiles; the same object twice for one folder
  paired.pairs[0]    # Pair(name="aachen/a_leftImg8bit", image=..., label=...)

In each pattern `*` stands for any text, folders included; the texts are the same in both. A pattern
may end in .png or another ending of files; without one it takes every ending. A pair is named by
its image: the path without the ending.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

from alp_jax.data.images import ENDINGS
from alp_jax.errors import UserError
from data_prep.raw.files import RawFile, RawFiles
from data_prep.raw.layout import Fault, Pair

SHAPES = "json"  # The ending of files with shapes (labelme.py).
EXAMPLES = "--pairs='*:*_mask' or --pairs='*_leftImg8bit:*_gtFine_labelIds'"
_ENDING = re.compile(rf"\.({'|'.join((*ENDINGS, SHAPES))})", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class NamePattern:
    """One side of a rule.

    Attributes:
        stem: the pattern without an ending.
        endings: endings of files that it takes.
    """

    stem: str
    endings: tuple[str, ...]

    def __str__(self) -> str:
        return self.stem if len(self.endings) > 1 else f"{self.stem}.{self.endings[0]}"

    @property
    def num_stars(self) -> int:
        """Number of `*`."""
        return self.stem.count("*")

    @property
    def weight(self) -> int:
        """How much of a name it fixes; a file that fits two patterns goes to the heavier one."""
        return len(self.stem) - self.num_stars

    def find(self, files: RawFiles) -> dict[str, RawFile]:
        """Maps paths without their ending to files, in ascending order.

        Raises:
            UserError: if two files have the same path but for the ending.
        """
        endings = "|".join(map(re.escape, self.endings))
        found: dict[str, RawFile] = {}
        for name, file in files.find_all(rf"(?s:\A(?P<name>{self._body('.+')})\.(?i:{endings})\Z)"):
            other = found.setdefault(name, file)
            if other.path != file.path:
                raise UserError(
                    f"{other} and {file} would have the same name, {name}: rename or remove one, "
                    "or say with --pairs which ending is meant, such as --pairs='*.png' for images "
                    "and --pairs='*.jpg:*.png' with labels."
                )
        return dict(sorted(found.items()))

    def split(self, name: str) -> tuple[str, ...] | None:
        """Returns the texts that the stars stand for in a name; None if it does not fit."""
        found = self._expression.fullmatch(name)
        return None if found is None else found.groups()

    def fill(self, texts: Sequence[str]) -> str:
        """Returns the name with these texts in place of the stars."""
        parts = self.stem.split("*")
        return "".join(part + text for part, text in zip(parts, (*texts, ""), strict=True))

    @functools.cached_property
    def _expression(self) -> re.Pattern[str]:
        return re.compile(self._body("(.+)"), re.DOTALL)

    def _body(self, star: str) -> str:
        return star.join(map(re.escape, self.stem.split("*")))


@dataclasses.dataclass(frozen=True)
class Paired:
    """What became of the files of one or two folders.

    Attributes:
        pairs: in the order of the images' names.
        faults: images without label and labels without image.
        images, labels: all files that fit their side of the rule, by their names.
    """

    pairs: list[Pair]
    faults: list[Fault]
    images: Mapping[str, RawFile]
    labels: Mapping[str, RawFile]


@dataclasses.dataclass(frozen=True)
class PairRule:
    """Which image and which label are a pair.

    Attributes:
        image: pattern of images.
        label: pattern of labels; None: it was not given, which is enough for images only.
    """

    image: NamePattern
    label: NamePattern | None = None

    def pair(self, images: RawFiles, labels: RawFiles | None) -> Paired:
        """Pairs all files that fit.

        Args:
            images: folder of the images.
            labels: folder of the labels: the same object if they lie in one folder. None: only
                the images are wanted.
        Raises:
            UserError: if a file could be the image or the label, or one of two pairs.
        """
        image_names = self.image.find(images)
        label_names = {} if self.label is None else self.label.find(labels or images)
        if labels is images or (labels is None and self != SAME_NAMES):
            image_names, label_names = self._separate(image_names, label_names)
        if labels is None:
            pairs = [Pair(name, file, None) for name, file in image_names.items()]
            return Paired(pairs, [], image_names, label_names if self != SAME_NAMES else {})
        pairs, faults = [], []
        owners: dict[str, RawFile] = {}
        for name, image in image_names.items():
            wanted = self.partner(name)
            if wanted is None or wanted not in label_names:
                faults.append(Fault("images without label", str(image), "has no label"))
                continue
            label = label_names[wanted]
            if wanted in owners:
                raise UserError(
                    f"{label} would be the label of {owners[wanted]} and of {image}: expected one "
                    "image for each label; write more of the names into --pairs."
                )
            owners[wanted] = image
            pairs.append(Pair(name, image, label))
        for name, label in label_names.items():
            if name not in owners:
                faults.append(Fault("labels without image", str(label), "has no image"))
        return Paired(pairs, faults, image_names, label_names)

    def partner(self, name: str) -> str | None:
        """Returns the name of the label of an image; None if the image does not fit."""
        texts = self.image.split(name)
        return None if texts is None or self.label is None else self.label.fill(texts)

    def _separate(
        self, images: dict[str, RawFile], labels: dict[str, RawFile]
    ) -> tuple[dict[str, RawFile], dict[str, RawFile]]:
        """Decides for each file of one folder whether it is an image or a label."""
        is_label = {file.path for file in labels.values()}
        both = [file for file in images.values() if file.path in is_label]
        if not both or self.label is None:
            return images, labels
        if self.image.weight == self.label.weight:
            raise UserError(
                f"{both[0]} fits both sides of --pairs, so it could be an image or a label: write "
                f"more of the names into one side, such as {EXAMPLES}."
            )
        taken = {file.path for file in both}
        if self.image.weight > self.label.weight:
            return images, {n: file for n, file in labels.items() if file.path not in taken}
        return {n: file for n, file in images.items() if file.path not in taken}, labels


def parse_pairs(text: str, *, with_labels: bool = True) -> PairRule:
    """Parses the value of the flag --pairs, "IMAGE:LABEL".

    Args:
        text: the value.
        with_labels: whether there are labels; without them "IMAGE" is enough.
    Raises:
        UserError: if it has another form.
    """
    sides = text.split(":")
    if not all(sides) or len(sides) not in ((2,) if with_labels else (1, 2)):
        raise UserError(
            f"pairs is {text!r}: expected the names of images and labels with a colon between "
            f"them, and * for what they share; write, for example, {EXAMPLES}."
        )
    patterns = [_parse_side(side) for side in sides]
    if patterns[0].endings == (SHAPES,):
        raise UserError(f"pairs is {text!r}, but images have no ending .{SHAPES}: leave it out.")
    stars = {pattern.num_stars for pattern in patterns}
    if len(stars) != 1 or 0 in stars:
        raise UserError(
            f"pairs is {text!r}: expected as many * on both sides, and at least one, as they stand "
            f"for the same texts; write, for example, {EXAMPLES}."
        )
    if "**" in text or any(side.startswith("/") for side in sides):
        raise UserError(
            f"pairs is {text!r}: expected paths below the folders, where one * stands for any text "
            f"with its folders; write, for example, {EXAMPLES}."
        )
    return PairRule(*patterns)


def _parse_side(side: str) -> NamePattern:
    """Splits a pattern into its stem and its ending, which may be missing."""
    stem, dot, ending = side.rpartition(".")
    if stem and _ENDING.fullmatch(dot + ending):
        return NamePattern(stem, (ending.lower(),))
    return NamePattern(side, ENDINGS)


SAME_NAMES = parse_pairs("*:*")
SAME_NAMES_SHAPES = parse_pairs(f"*:*.{SHAPES}")
