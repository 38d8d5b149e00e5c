"""Declares the settings of the network (config.model), and creates it from them.

Synopsis:

  settings = build(ModelSettings, config.model, name="config.model")
  segmenter = create_segmenter(settings, label_set.num_classes)
"""

import dataclasses
from typing import Any, Literal

from alp_jax.models.layers import ACTIVATION_DTYPES, ActivationDtype
from alp_jax.models.parts import Backbone, Decoder
from alp_jax.models.segmenter import BACKBONE, MAIN, Network, Segmenter, name_decoder
from alp_jax.settings.schema import Channels, Config, block, blocks, new_block, refuse, setting

BACKBONES = "alp_jax.models.backbones"
DECODERS = "alp_jax.models.decoders"


def backbone(kind: str, **values: Any) -> Config:
    """Creates the block of a backbone for a configuration file."""
    return new_block(BACKBONES, "BACKBONE", kind, **values)


def head(kind: str, **values: Any) -> Config:
    """Creates the block of a decoder for a configuration file."""
    return new_block(DECODERS, "DECODER", kind, **values)


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Settings of the network; the default is the paper's, DeepLabv2 with ResNet-101."""

    backbone: Backbone = block(
        BACKBONES,
        "BACKBONE",
        "Network that computes features of the images.",
        default_kind="resnet",
    )
    heads: dict[str, Decoder] = blocks(
        DECODERS,
        "DECODER",
        "Decoders that turn features into logits, by name. Those that `prediction` does not list "
        "are used in training only, such as aux on the last stage but one (AdvEnt).",
        default_kinds={MAIN: "aspp"},
    )
    prediction: tuple[str, ...] = setting(
        (MAIN,),
        "Heads that make predictions; logits of several are summed (CLAN, MCD).",
        non_empty=True,
        of_weights=False,
    )
    input_order: Literal["bgr", "rgb"] = setting(
        "bgr", "Channel order that the weights expect: bgr (Caffe) or rgb."
    )
    input_mean: Channels = setting(
        (104.00698793, 116.66876762, 122.67891434),
        "Grey levels subtracted from each channel, in that order.",
    )
    input_std: Channels = setting(
        (1.0, 1.0, 1.0), "Grey levels that each channel is divided by, in that order.", above=0
    )
    activation_dtype: ActivationDtype = setting(
        "float32",
        "Type of activations. bfloat16 needs half the memory; parameters, statistics, softmax and "
        "losses stay in single precision.",
        of_weights=False,
    )

    def check(self, name: str) -> None:
        """Refuses a network without a head main, or a head on a missing stage."""
        if MAIN not in self.heads:
            refuse(f"{name}.heads", sorted(self.heads), f"a head {MAIN}, which makes predictions")
        stages = len(self.backbone.stage_channels)
        for head_name, decoder in self.heads.items():
            if decoder.stage < -stages:
                expected = f"at least {-stages}, as the backbone has {stages} stages"
                refuse(f"{name}.heads.{head_name}.stage", decoder.stage, expected)
            self._check_shared(name, head_name, decoder)
        if unknown := [head_name for head_name in self.prediction if head_name not in self.heads]:
            known = ", ".join(self.head_names)
            refuse(f"{name}.prediction", unknown[0], f"names of heads of the network: {known}")
        if len(set(self.prediction)) < len(self.prediction):
            refuse(f"{name}.prediction", self.prediction, "each head once")

    def _check_shared(self, name: str, head_name: str, decoder: Decoder) -> None:
        """Refuses a head that uses the decoder of a head without one, or on another stage."""
        if decoder.shares is None:
            return
        other = self.heads.get(decoder.shares)
        if other is None or other.shares is not None or other.stage != decoder.stage:
            owners = [key for key, found in self.heads.items() if found.shares is None]
            expected = f"a head on the same stage with a decoder of its own: {', '.join(owners)}"
            refuse(f"{name}.heads.{head_name}.of", decoder.shares, expected)

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the heads: main first, the others in alphabetical order."""
        return (MAIN, *sorted(self.heads.keys() - {MAIN}))

    @property
    def moves_statistics(self) -> bool:
        """Whether a forward pass in training may update statistics of the network."""
        heads = any(head.moves_statistics for head in self.heads.values())
        return heads or self.backbone.moves_statistics


def create_segmenter(settings: ModelSettings, num_classes: int) -> Segmenter:
    """Creates the segmenter from its settings."""
    dtype = ACTIVATION_DTYPES[settings.activation_dtype]
    decoders = {head_name: settings.heads[head_name] for head_name in settings.head_names}
    modules = {
        head_name: decoder.create(num_classes, dtype).clone(name=name_decoder(head_name))
        for head_name, decoder in decoders.items()
        if decoder.shares is None
    }
    network = Network(
        settings.backbone.create(dtype).clone(name=BACKBONE),
        tuple(modules[decoder.shares or head_name] for head_name, decoder in decoders.items()),
        heads=settings.head_names,
        stages=tuple(decoder.stage for decoder in decoders.values()),
        input_order=settings.input_order,
        input_mean=settings.input_mean,
        input_std=settings.input_std,
    )
    parts = {name_decoder(head_name): decoders[head_name] for head_name in modules}
    return Segmenter(
        network,
        settings.head_names,
        num_classes,
        settings.backbone.init_size,
        parts=((BACKBONE, settings.backbone), *parts.items()),
        prediction=settings.prediction,
    )
