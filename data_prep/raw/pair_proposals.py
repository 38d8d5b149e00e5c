"""Proposes rules for --pairs that explain how the names of images and labels differ.

Synopsis:

  propose(["a_rgb", "b_rgb"], ["a_gt", "b_gt"])    # ["--pairs='*_rgb:*_gt'"]

A proposal is only printed; the user decides.
"""

import collections
import difflib
import re
import shlex
from collections.abc import Iterator, Sequence

from alp_jax.errors import UserError
from data_prep.raw.name_pairs import SHAPES, parse_pairs

_SEPARATORS = "/_-. "
_TOKEN = re.compile(rf"[{re.escape(_SEPARATORS)}]|[^{re.escape(_SEPARATORS)}]+")
_COMPARED = 300  # Labels that a sample of the images is compared with.
_PROPOSED = 3


def propose(images: Sequence[str], labels: Sequence[str], ending: str = "") -> list[str]:
    """Proposes rules for two folders.

    Args:
        images, labels: names without their endings, at least one of each, in ascending order.
        ending: the ending of labels, where the rule needs it.
    Returns:
        Up to 3 flags; each gives a label to half of the images, or an image to half of the labels.
    """
    counts: dict[str, int] = {}
    there = set(labels)
    for image, label in _sample(images, labels):
        for text in (*_compare(image, label, by_token=True), *_compare(image, label)):
            if text not in counts:
                counts[text] = _count(text, images, there)
    enough = min(len(images), len(labels)) / 2
    found = [text for text, number in counts.items() if number and number >= enough]
    found.sort(key=lambda text: (-counts[text], text.count("*"), len(text)))
    return [
        _format(text + ending) for text in found[:_PROPOSED] if counts[text] == counts[found[0]]
    ]


def propose_for_one_folder(names: Sequence[str], *, has_shapes: bool) -> list[str]:
    """Proposes rules for a folder that holds images and labels.

    Args:
        names: names of its images without their endings, in ascending order.
        has_shapes: whether it has JSON files, too.
    """
    ends: collections.Counter[str] = collections.Counter()
    there = set(names)
    for name in names:
        for end in range(1, len(name)):
            if name[:end] in there and not set(name[end:]) & {":", "*", "/"}:
                ends[name[end:]] += 1
    found = [f"*:*{end}" for end, number in ends.most_common(1) if number * 4 >= len(names)]
    return [_format(text) for text in ([f"*:*.{SHAPES}"] if has_shapes else []) + found]


def _format(text: str) -> str:
    return f"--pairs={shlex.quote(text)}"


def _sample(images: Sequence[str], labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields a few images with labels that might be theirs."""
    for index in {0, len(images) // 2, len(images) - 1}:
        image, same_place = images[index], index * len(labels) // len(images)
        start = max(0, min(same_place - _COMPARED // 2, len(labels) - _COMPARED))
        near = labels[start : start + _COMPARED]
        for label in difflib.get_close_matches(image, near, n=4, cutoff=0.1):
            yield image, label
        if index < len(labels):
            yield image, labels[index]


def _compare(image: str, label: str, *, by_token: bool = False) -> Iterator[str]:
    """Yields the rule by which two names are a pair: what they share becomes `*`."""
    parts = [_TOKEN.findall(name) if by_token else list(name) for name in (image, label)]
    matcher = difflib.SequenceMatcher(None, parts[0], parts[1], autojunk=False)
    blocks = matcher.get_matching_blocks() if by_token else [matcher.find_longest_match()]
    sides = ["", ""]
    ends = [0, 0]
    for start, other_start, size in blocks:
        text = "".join(parts[0][start : start + size])
        core = text.strip(_SEPARATORS)
        if not core:
            continue
        before, _, after = text.partition(core)
        for side, begin in enumerate((start, other_start)):
            literal = "".join(parts[side][ends[side] : begin]) + before
            sides[side] += f"{literal}*"
            ends[side] = begin + size - len(after)
    for side in (0, 1):
        sides[side] += "".join(parts[side][ends[side] :])
    if "*" in sides[0] and not {":", "\n"} & {*image, *label} and "*" not in image + label:
        yield ":".join(sides)


def _count(text: str, images: Sequence[str], labels: set[str]) -> int:
    """Counts the images that a rule gives a label; 0 if it is no rule or one label goes twice."""
    try:
        rule = parse_pairs(text)
    except UserError:
        return 0
    there = [label for label in map(rule.partner, images) if label in labels]
    return len(there) if len(set(there)) == len(there) else 0
