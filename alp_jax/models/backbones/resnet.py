"""Defines dilated ResNets, from the demo's small one to ResNet-101 with output stride 8."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import layers
from alp_jax.models.blocks import apply_blocks
from alp_jax.models.parts import Backbone, Group, Part
from alp_jax.models.published import (
    CAFFE_PIXELS,
    IMAGENET_PIXELS,
    Layout,
    Path,
    SizeOf,
    Unused,
    name_as_torch,
)
from alp_jax.models.residual import EXPANSION, Block, BlockKind, StridePlace
from alp_jax.settings.schema import refuse, setting

StemKind = Literal["imagenet", "two_convs"]
_STEM_CONVS = {"imagenet": 1, "two_convs": 2}

# Values of fields for configurations; the others keep their defaults (DeepLabv2's).
VARIANTS: dict[str, dict[str, Any]] = {
    "resnet18": {"block": "basic", "depths": (2, 2, 2, 2)},
    "resnet50": {"block": "bottleneck", "depths": (3, 4, 6, 3)},
    "resnet101": {"block": "bottleneck", "depths": (3, 4, 23, 3)},
}

# DeepLabv2's changes to a published ResNet: strides become dilations in the last two stages.
DEEPLAB_FIELDS: Mapping[str, object] = {
    "block": "bottleneck",
    "stem": "imagenet",
    "strides": (1, 2, 1, 1),
    "dilations": (1, 1, 2, 4),
    "stride_in": "1x1",
}
_FC = Unused(r"fc\.(weight|bias)", "fc, the classifier of ImageNet")
_PUBLISHED_STAGES = (1, 2, 3, 4)
_PUBLISHED_NAMES = {"downsample_conv": "downsample.0", "downsample_bn": "downsample.1"}


@dataclasses.dataclass(frozen=True)
class ResNetSettings(Backbone):
    """Settings of a dilated ResNet."""

    stem: StemKind = setting(
        "imagenet",
        "First layers, of stride 4: a 7x7 convolution and a max-pool that rounds sizes up "
        "(imagenet), or two 3x3 convolutions.",
    )
    stem_widths: tuple[int, ...] = setting(
        (64,), "Channels of the stem's convolutions.", above=0, non_empty=True
    )
    block: BlockKind = setting(
        "bottleneck",
        "Residual block: convolutions of 1x1, 3x3 and 1x1, the last of four times the width "
        "(bottleneck), or two of 3x3.",
    )
    stride_in: StridePlace = setting(
        "1x1",
        "The convolution of a bottleneck that has the stride: the first 1x1 (Caffe, DeepLabv2) or "
        "the 3x3 (torchvision).",
    )
    depths: tuple[int, ...] = setting(
        (3, 4, 23, 3), "Residual blocks in each stage: ResNet-101.", above=0, non_empty=True
    )
    widths: tuple[int, ...] = setting(
        (64, 128, 256, 512),
        "Channels in each stage, a quarter of a bottleneck's output.",
        above=0,
        non_empty=True,
    )
    strides: tuple[int, ...] = setting(
        (1, 2, 1, 1),
        "Stride of each stage's first block; the default has output stride 8.",
        above=0,
        non_empty=True,
    )
    dilations: tuple[int, ...] = setting(
        (1, 1, 2, 4), "Dilation of each stage's 3x3 convolutions.", above=0, non_empty=True
    )
    batch_norm_mode: layers.BatchNormMode = setting(
        "running",
        "Statistics that normalise in training: running ones, which each batch then updates (the "
        "paper), the batch's own (AdvEnt), or frozen ones (CRST).",
        of_weights=False,
    )
    batch_norm_train_affine: bool = setting(
        False, "Whether scale and bias of batch norm learn; False (AdvEnt).", of_weights=False
    )
    kernel_init: layers.KernelInit = setting(
        "normal_0.01", "Initialisation of the convolutions.", of_weights=False
    )
    scan_blocks: bool = setting(
        True,
        "Whether the equal blocks of a stage run as one loop, with the same values. Unrolled, XLA "
        "on the CPU recomputes the sums of all earlier blocks in each block.",
        of_weights=False,
    )
    rematerialise: bool = setting(
        False,
        "Whether activations inside blocks are recomputed for the gradient instead of stored: less "
        "memory, a third more arithmetic.",
        of_weights=False,
    )
    published: ClassVar[Mapping[str, Layout]] = {
        # CRST loads these weights into a network with the stride in the 1x1 convolution, which
        # changes only the first block of layer2. To do the same, set stride_in to 1x1 in the
        # written config.json.
        "torchvision": Layout(
            "ImageNet weights of a torchvision ResNet",
            IMAGENET_PIXELS,
            kind="resnet",
            fields={**DEEPLAB_FIELDS, "stride_in": "3x3"},
            unused=(_FC,),
            sha256_starts=("5d3b4d8f", "63fe2227", "cd907fc2"),
        ),
        "caffe_init": Layout(
            "initial weights of AdaptSegNet, CLAN and AdvEnt, converted from Caffe",
            CAFFE_PIXELS,
            kind="resnet",
            fields=DEEPLAB_FIELDS,
            unused=(
                _FC,
                Unused(
                    r"layer5\.conv2d_list\.[0-3]\.(weight|bias)",
                    "layer5, a classifier of 21 other classes",
                    size=21,
                ),
            ),
            prefixes=("Scale.", ""),
            sha256_starts=("f81d91e8",),
        ),
    }
    published_modules: ClassVar[tuple[str, ...]] = (
        *("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "downsample"),
        *(f"layer{stage}" for stage in _PUBLISHED_STAGES),
    )

    def check(self, name: str) -> None:
        """Refuses lists whose length does not fit the stages or the stem."""
        stages = len(self.depths)
        for field in ("widths", "strides", "dilations"):
            numbers = getattr(self, field)
            if len(numbers) != stages:
                expected = f"{stages} numbers, one for each stage of {name}.depths"
                refuse(f"{name}.{field}", numbers, expected)
        if len(self.stem_widths) != _STEM_CONVS[self.stem]:
            expected = f"a list of {_STEM_CONVS[self.stem]} for the stem {self.stem!r}"
            refuse(f"{name}.stem_widths", self.stem_widths, expected)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of the last block of every stage."""
        return tuple(width * EXPANSION[self.block] for width in self.widths)

    @property
    def moves_statistics(self) -> bool:
        """Whether batch norm updates its running statistics in training."""
        return self.batch_norm_mode != "frozen"

    def create(self, dtype: jnp.dtype | None) -> "ResNet":
        """Creates the network."""
        return ResNet(self, dtype)

    def group(self, path: Path) -> Group | None:
        """Labels a parameter; its depth is the stage, 0 for the stem.

        Published code lists a parameter once for every module around it: the layer itself in the
        stem (1), also the block and its stage in a block (3), and also the projection's sequence in
        a projection (4).
        """
        module = re.fullmatch(r"layer(?P<stage>\d+)_\d+|(conv|bn)\d", path[0])
        if module is None or path[-1] not in ("kernel", "scale", "bias"):
            return None
        is_norm = path[-1] != "kernel"
        is_frozen = is_norm and not self.batch_norm_train_affine
        part: Part = "frozen" if is_frozen else "backbone"
        if module["stage"] is None:
            return Group(part, decays=not is_norm)
        repeats = 4 if path[1].startswith("downsample") else 3
        return Group(part, decays=not is_norm, repeats=repeats, depth=int(module["stage"]))

    @classmethod
    def read_fields(cls, size_of: SizeOf, keys: Iterable[str]) -> dict[str, Any]:
        """Reads widths and depths of a published ResNet with bottlenecks."""
        blocks = {match[0] for key in keys if (match := re.match(r"layer[1-4]\.\d+\.", key))}
        return {
            "stem_widths": (size_of("conv1.weight"),),
            "widths": tuple(size_of(f"layer{i}.0.conv1.weight") for i in _PUBLISHED_STAGES),
            "depths": tuple(
                sum(block.startswith(f"layer{i}.") for block in blocks) for i in _PUBLISHED_STAGES
            ),
        }

    def published_key(self, path: Path) -> str:
        """Returns the key in a file of torchvision or the Caffe conversion: layer1.0.bn1.bias."""
        *modules, leaf = path
        names = [_PUBLISHED_NAMES.get(m) or re.sub(r"(layer\d)_", r"\1.", m) for m in modules]
        return ".".join([*names, name_as_torch(leaf)])


class ResNet(nn.Module):
    """Computes the features of every stage of images: a ResNet without its classifier.

    Attributes:
      settings: settings of the network.
      dtype: type of activations, see `layers.Conv`.
    """

    settings: ResNetSettings
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Computes [B, h, w, C] of each stage; `train` selects how batch norm behaves."""
        of = self.settings
        features = self._apply_stem(images, train=train)
        # Argument 2 of a block's __call__ is `train`; 0 is `self` and 1 is `inputs`.
        create_block = nn.remat(Block, static_argnums=(2,)) if of.rematerialise else Block
        outputs = []
        stages = zip(of.depths, of.widths, of.strides, of.dilations, strict=True)
        for stage, (depth, width, stride, dilation) in enumerate(stages, start=1):
            first, *others = (
                functools.partial(
                    create_block,
                    kind=of.block,
                    stride_in=of.stride_in,
                    width=width,
                    stride=stride if block == 0 else 1,
                    dilation=dilation,
                    project=block == 0,
                    batch_norm_mode=of.batch_norm_mode,
                    train_affine=of.batch_norm_train_affine,
                    kernel_init=layers.KERNEL_INITS[of.kernel_init],
                    dtype=self.dtype,
                    name=f"layer{stage}_{block}",
                )
                for block in range(depth)
            )
            features = apply_blocks(
                self,
                others,
                first()(features, train),
                train,
                in_loop=of.scan_blocks,
                dtype=self.dtype,
            )
            features = layers.relu(features)
            outputs.append(features)
        return outputs

    def _apply_stem(self, images: jax.Array, *, train: bool) -> jax.Array:
        of = self.settings
        kernel_size = 7 if of.stem == "imagenet" else 3
        features = images
        for i, width in enumerate(of.stem_widths, start=1):
            features = layers.Conv(
                width,
                kernel_size,
                stride=2,
                padding=kernel_size // 2,
                kernel_init=layers.KERNEL_INITS[of.kernel_init],
                dtype=self.dtype,
                name=f"conv{i}",
            )(features)
            norm = layers.BatchNorm(of.batch_norm_mode, of.batch_norm_train_affine, name=f"bn{i}")
            features = layers.relu(norm(features, train=train))
        return layers.max_pool_ceil(features) if of.stem == "imagenet" else features


BACKBONE = ResNetSettings
