"""Defines types that describe files of published weights.

A backbone's module declares the families of files that hold only this backbone. Families of whole
networks are rows of `data_prep.convert_weights.layouts`.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

# Names from a backbone or decoder down to a parameter or statistic: ("layer1_0", "bn1", "scale").
Path = tuple[str, ...]
# Returns the number of outputs of a convolution or linear layer, by key.
SizeOf = Callable[[str], int]

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
