"""Dilated residual networks: from the demo's small one to ResNet-101 with output stride 8."""

import functools
import operator
from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import layers

PyTree = Any
BlockKind = Literal["basic", "bottleneck"]
StemKind = Literal["imagenet", "two_convs"]
StridePlace = Literal["1x1", "3x3"]
BLOCK_KINDS: tuple[str, ...] = get_args(BlockKind)
STEM_KINDS: tuple[str, ...] = get_args(StemKind)
STRIDE_PLACES: tuple[str, ...] = get_args(StridePlace)

# Width of a block's output as a multiple of its stage width.
EXPANSION = {"basic": 1, "bottleneck": 4}

# Fewer equal blocks are written out: two blocks have little to compute again.
_MIN_SCANNED = 2


class Backbone(nn.Module):
    """ResNet without its classifier: [B, H, W, 3] -> the output of every stage.

    Attributes:
      stem: "imagenet" (7x7 stride-2 convolution and ceil-mode max-pool) or "two_convs" (two 3x3
        stride-2 convolutions); both have output stride 4.
      stem_widths: channels of the stem's convolutions.
      block: "bottleneck" (1x1, 3x3, 1x1 to four times the width) or "basic" (two 3x3, the first
        with the stride).
      stride_in: the bottleneck's convolution with the stride, "1x1" (the first; Caffe, DeepLabv2)
        or "3x3" (torchvision).
      depths: residual blocks in each stage; widths, strides and dilations: one number a stage.
      norm: the batch norm that every layer uses.
      kernel_init: initialiser of every convolution.
      dtype: of activations, see `layers.Conv`.
      rematerialise: whether the backward pass computes each block's inner activations again,
        instead of keeping them: less memory for a third more arithmetic.
      scan_blocks: whether the equal blocks of a stage are one loop of the program, instead of being
        written out. XLA on the CPU, given many, computes all earlier blocks' sums again in each.
    """

    stem: StemKind
    stem_widths: tuple[int, ...]
    block: BlockKind
    stride_in: StridePlace
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    batch_norm_mode: layers.BatchNormMode
    train_affine: bool
    kernel_init: layers.Initializer
    dtype: jnp.dtype | None
    rematerialise: bool
    scan_blocks: bool

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Computes [B, h, w, C] of each stage; `train` selects how batch norm behaves."""
        features = self._stem(images, train=train)
        # `train` is the third argument of a block, after itself and its inputs.
        create_block = nn.remat(Block, static_argnums=(2,)) if self.rematerialise else Block
        outputs = []
        stages = zip(self.depths, self.widths, self.strides, self.dilations, strict=True)
        for stage, (depth, width, stride, dilation) in enumerate(stages, start=1):
            first, *others = (
                functools.partial(
                    create_block,
                    kind=self.block,
                    stride_in=self.stride_in,
                    width=width,
                    stride=stride if block == 0 else 1,
                    dilation=dilation,
                    project=block == 0,
                    batch_norm_mode=self.batch_norm_mode,
                    train_affine=self.train_affine,
                    kernel_init=self.kernel_init,
                    dtype=self.dtype,
                    name=f"layer{stage}_{block}",
                )
                for block in range(depth)
            )
            features = first()(features, train)
            if self.scan_blocks and len(others) >= _MIN_SCANNED and not self.is_initializing():
                features = self._scan(others, features, train)
            else:
                for create in others:
                    features = create()(features, train)
            features = layers.relu(features)
            outputs.append(features)
        return outputs

    def _scan(
        self, blocks: "Sequence[functools.partial[Block]]", features: jax.Array, train: bool
    ) -> jax.Array:
        """Applies blocks of equal variables one after the other, in one loop.

        Each block's variables stay its own, under its own name: they are stacked here.
        """
        names = [block.keywords["name"] for block in blocks]
        held = {kind: [tree[name] for name in names] for kind, tree in self.variables.items()}
        stacked = {kind: jax.tree.map(self._stack, *trees) for kind, trees in held.items()}
        block = blocks[0](name=None, parent=None)

        def body(features: jax.Array, variables: PyTree) -> tuple[jax.Array, PyTree]:
            outputs, updated = block.apply(variables, features, train, mutable=["batch_stats"])
            return cast(jax.Array, outputs), updated["batch_stats"]

        features, statistics = jax.lax.scan(body, features, stacked)
        if train:
            for i, name in enumerate(names):
                own = jax.tree.map(operator.itemgetter(i), statistics)
                self.put_variable("batch_stats", name, own)
        return features

    def _stack(self, *leaves: jax.Array) -> jax.Array:
        """Stacks the blocks' leaves; kernels in the type of the product, to move no more bytes."""
        is_kernel = leaves[0].ndim == 4
        return jnp.stack(leaves, dtype=self.dtype if is_kernel else None)

    def _stem(self, images: jax.Array, *, train: bool) -> jax.Array:
        kernel_size = 7 if self.stem == "imagenet" else 3
        features = images
        for i, width in enumerate(self.stem_widths, start=1):
            features = layers.Conv(
                width,
                kernel_size,
                stride=2,
                padding=kernel_size // 2,
                kernel_init=self.kernel_init,
                dtype=self.dtype,
                name=f"conv{i}",
            )(features)
            norm = layers.BatchNorm(self.batch_norm_mode, self.train_affine, name=f"bn{i}")
            features = layers.relu(norm(features, train=train))
        return layers.max_pool_ceil(features) if self.stem == "imagenet" else features


class Block(nn.Module):
    """One residual block; the shortcut of a stage's first block is a 1x1 projection.

    It takes and gives the sum before its ReLU, and so keeps the activation itself, of which both
    gradients come, that of its first convolution and that of the ReLU.
    """

    kind: BlockKind
    stride_in: StridePlace
    width: int
    stride: int
    dilation: int
    project: bool
    batch_norm_mode: layers.BatchNormMode
    train_affine: bool
    kernel_init: layers.Initializer
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, H / stride, W / stride, width * EXPANSION[kind]]."""
        out_width = self.width * EXPANSION[self.kind]
        # (kernel size, output width, stride, dilation) of each convolution.
        if self.kind == "bottleneck":
            strides = (self.stride, 1) if self.stride_in == "1x1" else (1, self.stride)
            convs = [
                (1, self.width, strides[0], 1),
                (3, self.width, strides[1], self.dilation),
                (1, out_width, 1, 1),
            ]
        else:
            convs = [(3, self.width, self.stride, self.dilation), (3, out_width, 1, self.dilation)]

        inputs = layers.relu(inputs)
        features = inputs
        for i, conv in enumerate(convs, start=1):
            features = self._conv_bn(features, *conv, names=(f"conv{i}", f"bn{i}"), train=train)
            if i < len(convs):
                features = layers.relu(features)
        shortcut = inputs
        if self.project:
            names = ("downsample_conv", "downsample_bn")
            shortcut = self._conv_bn(inputs, 1, out_width, self.stride, 1, names=names, train=train)
        return features + shortcut

    def _conv_bn(
        self,
        inputs: jax.Array,
        kernel_size: int,
        width: int,
        stride: int,
        dilation: int,
        *,
        names: tuple[str, str],
        train: bool,
    ) -> jax.Array:
        features = layers.Conv(
            width,
            kernel_size,
            stride=stride,
            dilation=dilation,
            padding=dilation * (kernel_size // 2),
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name=names[0],
        )(inputs)
        norm = layers.BatchNorm(self.batch_norm_mode, self.train_affine, name=names[1])
        return norm(features, train=train)
