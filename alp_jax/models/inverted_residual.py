"""Defines the inverted residual block of MobileNetV2 and EfficientNets (MBConv)."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import layers
from alp_jax.models.ops.depthwise import Padding

PaddingKind = Literal["same", "symmetric"]


class BlockPlan(NamedTuple):
    """What a block is.

    Attributes:
      stage: its stage, from 1.
      width: channels of its output.
      expansion: channels between its 1x1 convolutions, as a multiple of those of its input.
      kernel_size, stride, dilation: of its depthwise convolution.
      is_residual: whether its input is added to its output.
      drop_rate: probability that an image of a batch has its input alone.
    """

    stage: int
    width: int
    expansion: int
    kernel_size: int
    stride: int
    dilation: int
    is_residual: bool
    drop_rate: float


def create_norm(
    mode: layers.BatchNormMode, train_affine: bool, name: str | None = None
) -> layers.BatchNorm:
    """Creates a batch norm of EfficientNet: a batch's statistics have the weight 0.01."""
    return layers.BatchNorm(mode, train_affine, momentum=0.99, epsilon=1e-3, name=name)


def find_padding(
    kind: PaddingKind, sides: tuple[int, ...], kernel_size: int, stride: int, dilation: int = 1
) -> Padding:
    """Finds the zeros around a map for which a side n gives ceil(n / stride) outputs.

    "same" is TensorFlow's SAME for the given sides: zeros as few as possible and, if their number
    is odd, one more after the map than before it.

    Args:
      kind: "same", or "symmetric": as many before as after, PyTorch's usual padding.
      sides: (height, width) of the map.
      kernel_size, stride, dilation: of the convolution; the kernel size is odd.
    """
    reach = dilation * (kernel_size - 1)

    def find(side: int) -> tuple[int, int]:
        total = reach
        if kind == "same":
            total = max((-(-side // stride) - 1) * stride + reach + 1 - side, 0)
        return total // 2, total - total // 2

    height, width = sides
    return find(height), find(width)


class InvertedResidual(nn.Module):
    """Applies one block: widens the channels, convolves each of them alone, and narrows them.

    Its output has no activation.

    Attributes:
      plan: what the block is.
      padding: zeros around maps, see `find_padding`.
      create_norm: creates a batch norm of a given name.
      kernel_init: initialisation of the convolutions.
      dtype: type of activations, see `layers.Conv`.
    """

    plan: BlockPlan
    padding: PaddingKind
    create_norm: Callable[..., layers.BatchNorm]
    kernel_init: layers.Initializer
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        """Computes [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), width]."""
        plan = self.plan
        features = inputs
        if plan.expansion > 1:
            features = self._convolve(plan.expansion * inputs.shape[-1], "expand_conv")(features)
            features = layers.relu6(self.create_norm(name="bn0")(features, train=train))
        features = self._convolve_channels(features)
        features = layers.relu6(self.create_norm(name="bn1")(features, train=train))
        features = self._convolve(plan.width, "project_conv")(features)
        features = self.create_norm(name="bn2")(features, train=train)
        if not plan.is_residual:
            return features
        if plan.drop_rate > 0 and train:
            drop = nn.Dropout(plan.drop_rate, broadcast_dims=(1, 2, 3))
            features = drop(features, deterministic=False)
        return features + inputs

    def _convolve(self, width: int, name: str) -> layers.Conv:
        return layers.Conv(width, 1, kernel_init=self.kernel_init, dtype=self.dtype, name=name)

    def _convolve_channels(self, features: jax.Array) -> jax.Array:
        plan = self.plan
        convolution = layers.DepthwiseConv(
            plan.kernel_size,
            plan.stride,
            plan.dilation,
            find_padding(
                self.padding, features.shape[1:3], plan.kernel_size, plan.stride, plan.dilation
            ),
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="depthwise_conv",
        )
        return convolution(features)
