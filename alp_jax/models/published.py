"""How published weights name and mean their tensors: types for the files of networks.

A backbone's file declares the families of published files that hold it alone. A family of whole
networks is a row of `data_prep.convert_weights.layouts`, the reader of such files.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

# Names from a backbone or decoder down to a parameter or statistic: ("layer1_0", "bn1", "scale").
Path = tuple[str, ...]
# Returns the number of outputs of the convolution or linear layer with a key.
SizeOf = Callable[[str], int]

# What networks are fed, as fields of config.model.
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
      pattern: regular expression of their whole keys.
      reason: what they are, for people.
      size: first dimension that they must have, or None.
    """

    pattern: str
    reason: str
    size: int | None = None


@dataclasses.dataclass(frozen=True)
class PublishedHead:
    """How a file holds one head.

    Attributes:
      modules: of the file; our head is the sum of their outputs, in that order.
      stage: of the backbone, counted from the end, as in the decoder's settings.
      fields: other settings of the decoder that the layout decides.
      kind: of the decoder.
    """

    modules: tuple[str, ...]
    stage: int
    fields: Mapping[str, object]
    kind: str


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one family of files is read.

    Attributes:
      description: whose files they are.
      pixels: what the network is fed, fields of config.model.
      kind: of the backbone.
      fields: settings of the backbone that the layout decides; the others are sizes of tensors.
      heads: our head -> how the file holds it; empty for a backbone alone.
      unused: what else is in a file.
      prefixes: of all keys, below DataParallel's; the first is the one written.
      sha256_starts: of well-known files, by which they are recognised.
    """

    description: str
    pixels: Mapping[str, object]
    kind: str
    fields: Mapping[str, object]
    heads: Mapping[str, PublishedHead] = dataclasses.field(default_factory=dict)
    unused: tuple[Unused, ...] = ()
    prefixes: tuple[str, ...] = ("",)
    sha256_starts: tuple[str, ...] = ()

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
        """Says what a tensor is that the network does not need; None for another one."""
        for unused in self.unused:
            if re.fullmatch(unused.pattern, key) and unused.size in (None, *shape[:1]):
                return unused.reason
        return None
