"""Defines the residual block of ResNets."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import layers

BlockKind = Literal["basic", "bottleneck"]
StridePlace = Literal["1x1", "3x3"]

# Width of a block's output as a multiple of its own width.
EXPANSION = {"basic": 1, "bottleneck": 4}


class Block(nn.Module):
    """Applies one residual block; the shortcut of a stage's first block is a 1x1 projection.

    Input and output are pre-activations. The block applies the ReLU itself, so one stored
    activation serves both gradients: of its first convolution and of the ReLU.
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
        """Computes [B, H, W, C] -> [B, H / stride, W / stride, width * EXPANSION[kind]]."""
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
