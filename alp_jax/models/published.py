"""Defines types that describe files of published weights.

A backbone's module declares the families of files that hold only this backbone. Families of whole
networks are rows of `data_prep.convert_weights.layouts`.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

# Names from a backbone or decoder down to a parameter or statistic: ("layer1_0", "bn1", "scale").
Path = tuple[str, ...]
# Returns the number of outputs of a convolution or linear layer, by key.
SizeOf = Callable[[str], int]

# Key of a tensor or of its module, as `published_key` returns it -> its name in files that have
# other names; several names: tensors that are joined along their outputs. {} is a number.
Names = Mapping[str, str | tuple[str, ...]]

# Order and scaling of input channels, as fields of config.model.
CAFFE_PIXELS: Mapping[str, object] = {
    "input_order": "bgr",
    "input_mean": (104.00698793, 116.66876762, 122.67891434),
    "input_std": (1.0, 1.0, 1.0),
}
# (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) of [0, 1], in grey levels.
IMAGENET_PIXELS: Mapping[str, object] = {
    "input_order": "rgb",
    "input_mean": (123.675, 116.28, 103.53),
    "input_std": (58.395, 57.12, 57.375),
}

_TORCH_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


def name_as_torch(leaf: str) -> str:
    """Returns PyTorch's name of a layer's parameter or statistic: "weight" for "kernel"."""
    return _TORCH_LEAVES.get(leaf, leaf)


@dataclasses.dataclass(frozen=True)
class Unused:
    """Tensors of a file that the network does not need.

    Attributes:
      pattern: regular expression that matches their whole keys.
      reason: description of these tensors, for people.
      size: required first dimension, or None.
    """

    pattern: str
    reason: str
    size: int | None = None


@dataclasses.dataclass(frozen=True)
class PublishedHead:
    """Layout of one head in a file.

    Attributes:
      modules: modules of the file; the head is the sum of their outputs, in that order.
      stage: stage of the backbone, counted from the end, as in the decoder's settings.
      fields: other settings of the decoder that the layout decides.
      kind: kind of the decoder.
    """

    modules: tuple[str, ...]
    stage: int
    fields: Mapping[str, object]
    kind: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """Layout of one family of files.

    Attributes:
      description: content and origin of the files, for people.
      pixels: order and scaling of input channels, fields of config.model.
      kind: kind of the backbone.
      fields: settings of the backbone that the layout decides; the others are sizes of tensors.
      heads: head of the segmenter -> its layout in the file; empty for a backbone alone.
      unused: tensors in the file that the network does not need.
      prefixes: possible prefixes of all keys, after DataParallel's; the first is the one written.
      sha256_starts: first digits of the SHA-256 of well-known files, to recognise them.
      packages: name of a network, for --input -> package that installs its file of weights.
      names: names in these files that differ from those of `published_key`.
      has, lacks: keys that every file of the layout has, and that none has, to recognise them.
      licence: licence of the well-known files, for people; empty: the program does not tell it.
    """

    description: str
    pixels: Mapping[str, object]
    kind: str
    fields: Mapping[str, object]
    heads: Mapping[str, PublishedHead] = dataclasses.field(default_factory=dict)
    unused: tuple[Unused, ...] = ()
    prefixes: tuple[str, ...] = ("",)
    sha256_starts: tuple[str, ...] = ()
    packages: Mapping[str, str] = dataclasses.field(default_factory=dict)
    names: Names = dataclasses.field(default_factory=dict)
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    licence: str = ""

    def keys_in_file(self, key: str) -> tuple[str, ...]:
        """Returns the keys of the tensors in a file that make up a tensor, for its key.

        Args:
          key: as `published_key` returns it.
        """
        for name, given in self.names.items():
            found = _match(name, key)
            if found is not None:
                given = (given,) if isinstance(given, str) else given
                return tuple(one.format(*found[0]) + found[1] for one in given)
        return (key,)

    def keys_of_file(self, keys: Iterable[str]) -> set[str]:
        """Returns the keys, as `published_key` returns them, of the tensors in a file."""
        templates = [
            (one, name)
            for name, given in self.names.items()
            for one in ((given,) if isinstance(given, str) else given)
        ]
        return {_rename(key, templates) for key in keys}

    def model_fields(self) -> dict[str, object]:
        """Returns the fields of config.model that the layout decides, nested."""
        fields: dict[str, object] = {"backbone": {"kind": self.kind, **self.fields}, **self.pixels}
        if self.heads:
            fields["heads"] = {
                name: {"kind": head.kind, "stage": head.stage, **head.fields}
                for name, head in self.heads.items()
            }
        return fields

    def find_reason_unused(self, key: str, shape: Sequence[int]) -> str | None:
        """Describes a tensor that the network does not need; returns None for any other one."""
        for unused in self.unused:
            if re.fullmatch(unused.pattern, key) and unused.size in (None, *shape[:1]):
                return unused.reason
        return None


def _match(template: str, key: str) -> tuple[list[str], str] | None:
    """Returns the numbers in a key, and what follows the template in it; None if it differs."""
    pattern = re.escape(template).replace(re.escape("{}"), r"(\d+)")
    found = re.fullmatch(rf"{pattern}(\..*)?", key)
    if found is None:
        return None
    *numbers, rest = found.groups(default="")
    return numbers, rest


def _rename(key: str, templates: Sequence[tuple[str, str]]) -> str:
    """Renames a key by the first template that it matches."""
    for template, name in templates:
        found = _match(template, key)
        if found is not None:
            return name.format(*found[0]) + found[1]
    return key
