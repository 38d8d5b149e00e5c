"""How published files name the tensors of DeepLabv2, and what their networks expect.

Synopsis:

  layout = LAYOUTS["advent"]
  config.model.update(layout.model_fields())
  layout.key_of(path)     # of our parameter or statistic: "layer1.0.conv1.weight"

To support another file, add a row to LAYOUTS and its network to tests/data_prep.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

AUTO = "auto"
COUNTER = "num_batches_tracked"
COUNTER_REASON = "batch norm's counters of batches, which nothing reads"
# Branches of a classifier in a file, whether its forward pass reaches them or not.
NUM_BRANCHES = 4
_MAIN, _AUX = "classifier", "aux_classifier"

_CAFFE_PIXELS = {
    "input_order": "bgr",
    "input_mean": (104.00698793, 116.66876762, 122.67891434),
    "input_std": (1.0, 1.0, 1.0),
}
# (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) of [0, 1], in grey levels.
_IMAGENET_PIXELS = {
    "input_order": "rgb",
    "input_mean": (123.675, 116.28, 103.53),
    "input_std": (58.395, 57.12, 57.375),
}


@dataclasses.dataclass(frozen=True)
class Unused:
    """Tensors of a file that the network has no use for.

    Attributes:
      pattern: regular expression of their whole keys.
      reason: what they are, for people.
      size: first dimension that they must have, or None.
    """

    pattern: str
    reason: str
    size: int | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one family of files is to be read.

    Attributes:
      description: whose files they are.
      pixels: what the network is fed, fields of config.model.
      stride_in: of config.model.
      heads: our classifier -> modules of the file whose branches it sums, in order.
      dilations: of the branches that each of those modules sums, its first ones.
      unused: what else is in a file.
      prefixes: of all keys, below DataParallel's; the first is the one written.
    """

    description: str
    pixels: Mapping[str, object]
    stride_in: str = "1x1"
    heads: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    dilations: tuple[int, ...] = (6, 12, 18, 24)
    unused: tuple[Unused, ...] = ()
    prefixes: tuple[str, ...] = ("",)

    def model_fields(self) -> dict[str, object]:
        """Fields of config.model that the layout decides; the others are sizes of tensors."""
        fields = {
            "block": "bottleneck",
            "stem": "imagenet",
            "strides": (1, 2, 1, 1),
            "dilations": (1, 1, 2, 4),
            "stride_in": self.stride_in,
            **self.pixels,
        }
        if self.heads:
            fields["classifier_dilations"] = self.dilations * len(self.heads[_MAIN])
            fields["aux_classifier"] = _AUX in self.heads
        return fields

    def modules(self) -> dict[str, int]:
        """Maps the modules of the heads to the stage that each reads, counted from the end."""
        stages = {_MAIN: -1, _AUX: -2}
        return {module: stages[head] for head, names in self.heads.items() for module in names}

    def reason_unused(self, key: str, shape: Sequence[int]) -> str | None:
        """Says what a tensor is that the network has no use for, or None."""
        for unused in self.unused:
            if re.fullmatch(unused.pattern, key) and unused.size in (None, *shape[:1]):
                return unused.reason
        return None

    def key_of(self, path: tuple[Any, ...]) -> str:
        """Names the tensor in the file that is at a path of our tree (`trees`)."""
        names = [entry.key for entry in path]
        *modules, leaf = (name for name in names if name not in _LEVELS)
        if modules[0] in self.heads:
            number = int(modules[1].removeprefix("branch"))
            part, branch = divmod(number, len(self.dilations))
            modules = [self.heads[modules[0]][part], "conv2d_list", str(branch)]
        return ".".join(_published_name(name) for name in (*modules, leaf))


# Levels of our trees that are not in the keys of a file.
_LEVELS = ("params", "model_state", "batch_stats", "backbone")
_PUBLISHED_NAMES = {
    "downsample_conv": "downsample.0",
    "downsample_bn": "downsample.1",
    "kernel": "weight",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


def _published_name(name: str) -> str:
    return _PUBLISHED_NAMES.get(name) or re.sub(r"(layer\d)_", r"\1.", name)


_FC = Unused(r"fc\.(weight|bias)", "fc, the classifier of ImageNet")
_DEAD = Unused(
    r"layer[56]\.conv2d_list\.[23]\.(weight|bias)",
    "branches of dilation 18 and 24, which AdaptSegNet's forward pass never reaches",
)

LAYOUTS: dict[str, Layout] = {
    # CRST puts these weights into the network whose stride is in the 1x1 convolution. Only the
    # first block of layer2 computes otherwise then; to do so, set model.stride_in to 1x1 in the
    # config.json that is written.
    "torchvision": Layout(
        "ImageNet weights of a torchvision ResNet",
        _IMAGENET_PIXELS,
        stride_in="3x3",
        unused=(_FC,),
    ),
    "caffe_init": Layout(
        "initial weights of AdaptSegNet, CLAN and AdvEnt, converted from Caffe",
        _CAFFE_PIXELS,
        unused=(
            _FC,
            Unused(
                r"layer5\.conv2d_list\.[0-3]\.(weight|bias)",
                "layer5, a classifier of 21 other classes",
                size=21,
            ),
        ),
        prefixes=("Scale.", ""),
    ),
    "advent": Layout(
        "AdvEnt, two levels", _CAFFE_PIXELS, heads={_MAIN: ("layer6",), _AUX: ("layer5",)}
    ),
    "advent_single": Layout("AdvEnt, one level", _CAFFE_PIXELS, heads={_MAIN: ("layer6",)}),
    # Both AdaptSegNet networks return inside the loop that sums the branches, after the second.
    "adaptsegnet": Layout(
        "AdaptSegNet, two levels",
        _CAFFE_PIXELS,
        heads={_MAIN: ("layer6",), _AUX: ("layer5",)},
        dilations=(6, 12),
        unused=(_DEAD,),
    ),
    "adaptsegnet_single": Layout(
        "AdaptSegNet, one level",
        _CAFFE_PIXELS,
        heads={_MAIN: ("layer5",)},
        dilations=(6, 12),
        unused=(_DEAD,),
    ),
    # Two classifiers on the same features, whose logits are added: one of eight branches.
    "clan": Layout("CLAN", _CAFFE_PIXELS, heads={_MAIN: ("layer5", "layer6")}),
    "crst": Layout("CBST and CRST", _IMAGENET_PIXELS, heads={_MAIN: ("layer5",)}),
}


# The order in which published modules register what they hold.
_ORDER = [
    *("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "downsample"),
    *("layer1", "layer2", "layer3", "layer4", "layer5", "layer6", "conv2d_list"),
    *("weight", "bias", "running_mean", "running_var", COUNTER),
]


def published_order(key: str) -> list[int]:
    """Sorts keys as a published network's state_dict() lists them."""
    return [int(part) if part.isdigit() else _ORDER.index(part) for part in key.split(".")]


def counter_of(key: str) -> str | None:
    """The key of the counter beside a batch norm's running mean; of other keys None."""
    module, _, leaf = key.rpartition(".")
    return f"{module}.{COUNTER}" if leaf == "running_mean" else None
