"""Declares how published files name the tensors of a network, and which input it expects.

Synopsis:

  layout = LAYOUTS["advent"]
  model = build(ModelSettings, ...)           # with the fields of layout.model_fields()
  keys_of(layout, model, path)                # keys of a parameter: ("layer1.0.bn1.bias",)

The module of a backbone (alp_jax/models/backbones) declares the files that hold only this backbone.
To support another file of a whole network, add a row to WHOLE_NETWORKS and its network to
tests/data_prep.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from alp_jax.models.backbones import resnet
from alp_jax.models.parts import Backbone, Decoder
from alp_jax.models.published import (
    CAFFE_PIXELS,
    IMAGENET_PIXELS,
    Layout,
    PublishedHead,
    Unused,
)
from alp_jax.models.segmenter import BACKBONE, MAIN, name_decoder
from alp_jax.models.settings import BACKBONES, DECODERS, ModelSettings
from alp_jax.settings import kinds

AUTO = "auto"
COUNTER = "num_batches_tracked"
COUNTER_REASON = "batch norm's counters of batches, which nothing reads"
_AUX = "aux"
_LEAVES = ("weight", "bias", "running_mean", "running_var", COUNTER)
# Levels of our trees that are not in the keys of a file.
_LEVELS = ("params", "model_state", "batch_stats")


def _describe_deeplab(
    description: str,
    pixels: Mapping[str, object],
    heads: Mapping[str, tuple[str, ...]],
    *,
    dilations: tuple[int, ...] = (6, 12, 18, 24),
    unused: tuple[Unused, ...] = (),
) -> Layout:
    """Creates the layout of a file of DeepLabv2.

    Args:
      description: origin of the files.
      pixels: order and scaling of input channels.
      heads: head of the segmenter -> modules of the file whose branches it sums, in order.
      dilations: dilations of the branches that each module's forward pass reaches, the first ones.
      unused: tensors in the file that the network does not need.
    """
    stages = {MAIN: -1, _AUX: -2}
    published = {
        head: PublishedHead(
            modules, stages[head], {"dilations": dilations * len(modules)}, kind="aspp"
        )
        for head, modules in heads.items()
    }
    fields = resnet.DEEPLAB_FIELDS
    return Layout(description, pixels, "resnet", fields, published, unused)


_DEAD = Unused(
    r"layer[56]\.conv2d_list\.[23]\.(weight|bias)",
    "branches of dilation 18 and 24, which AdaptSegNet's forward pass never reaches",
)
WHOLE_NETWORKS: dict[str, Layout] = {
    "advent": _describe_deeplab(
        "AdvEnt, two levels", CAFFE_PIXELS, {MAIN: ("layer6",), _AUX: ("layer5",)}
    ),
    "advent_single": _describe_deeplab("AdvEnt, one level", CAFFE_PIXELS, {MAIN: ("layer6",)}),
    # Both AdaptSegNet networks return inside the loop that sums the branches, after the second.
    "adaptsegnet": _describe_deeplab(
        "AdaptSegNet, two levels",
        CAFFE_PIXELS,
        {MAIN: ("layer6",), _AUX: ("layer5",)},
        dilations=(6, 12),
        unused=(_DEAD,),
    ),
    "adaptsegnet_single": _describe_deeplab(
        "AdaptSegNet, one level",
        CAFFE_PIXELS,
        {MAIN: ("layer5",)},
        dilations=(6, 12),
        unused=(_DEAD,),
    ),
    # Two classifiers on the same features, whose logits are added: one of eight branches.
    "clan": _describe_deeplab("CLAN", CAFFE_PIXELS, {MAIN: ("layer5", "layer6")}),
    "crst": _describe_deeplab("CBST and CRST", IMAGENET_PIXELS, {MAIN: ("layer5",)}),
}


def load_backbone(kind: str) -> type[Backbone]:
    """Returns the settings class of a backbone."""
    return cast(type[Backbone], kinds.load(BACKBONES, kind, "BACKBONE"))


def load_decoder(kind: str) -> type[Decoder]:
    """Returns the settings class of a decoder."""
    return cast(type[Decoder], kinds.load(DECODERS, kind, "DECODER"))


def _list_backbones() -> Iterator[tuple[str, Layout]]:
    for kind in kinds.names(BACKBONES):
        yield from load_backbone(kind).published.items()


LAYOUTS: dict[str, Layout] = {**dict(_list_backbones()), **WHOLE_NETWORKS}
# Files that could be mistaken for others, by the start of their SHA-256, which is in their names.
PUBLISHED_FILES = {"ed35151c": "adaptsegnet"} | {
    start: name for name, layout in LAYOUTS.items() for start in layout.sha256_starts
}


def keys_of(layout: Layout, model: ModelSettings, path: tuple[Any, ...]) -> tuple[str, ...]:
    """Returns the keys in a file of the tensors that make up the one at a path of our tree.

    Args:
      layout: layout of the file.
      model: settings of the network.
      path: path in a tree of `trees.create_shapes`.
    Returns:
      one key, or those of tensors that are joined along their outputs, in that order.
    """
    part, *below = (entry.key for entry in path if entry.key not in _LEVELS)
    if part == BACKBONE:
        return layout.keys_in_file(model.backbone.published_key(tuple(below)))
    head = next(head for head in layout.heads if name_decoder(head) == part)
    key = model.heads[head].published_key(tuple(below), layout.heads[head].modules)
    return layout.keys_in_file(key)


def sort_as_published(keys: Iterable[str], layout: Layout) -> list[str]:
    """Sorts keys as the state_dict() of a published network lists them."""
    heads = layout.heads.values()
    order = [
        *load_backbone(layout.kind).published_modules,
        *sorted({module for head in heads for module in head.modules}),
        *(module for head in heads for module in load_decoder(head.kind).published_modules),
        *_LEAVES,
    ]

    def place(key_in_file: str) -> list[int]:
        (key,) = layout.keys_of_file([key_in_file])
        return [int(part) if part.isdigit() else order.index(part) for part in key.split(".")]

    return sorted(keys, key=place)


def counter_of(key: str) -> str | None:
    """Returns the key of the counter beside a batch norm's running mean; None for other keys."""
    module, _, leaf = key.rpartition(".")
    return f"{module}.{COUNTER}" if leaf == "running_mean" else None


def list_logits_keys() -> dict[str, str]:
    """Maps every module that is a classifier in some layout to the key of its logits' weight."""
    heads = [head for layout in LAYOUTS.values() for head in layout.heads.values()]
    keys = {
        module: load_decoder(head.kind).published_logits_key(module)
        for head in heads
        for module in head.modules
    }
    return dict(sorted(keys.items()))
