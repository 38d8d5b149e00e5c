"""Defines what decoders that join the features of all stages have in common."""

import dataclasses
import re
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import layers, resampling
from alp_jax.models.parts import Decoder, Group
from alp_jax.models.published import Path
from alp_jax.settings.schema import setting

# mmcv's, of convolutions before a ReLU; a depthwise kernel counts the outputs of all channels.
_KAIMING = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


@dataclasses.dataclass(frozen=True)
class FusionSettings(Decoder):
    """Settings of a decoder that reads all stages up to `stage`.

    Attributes:
      modules: pattern of the names of its modules.
    """

    modules: ClassVar[str]

    dropout_rate: float = setting(
        0.1,
        "Share of the last channels that training sets to 0, drawn for each image.",
        at_least=0,
        below=1,
        of_weights=False,
    )
    batch_norm_mode: layers.BatchNormMode = setting(
        "batch",
        "Statistics that normalise in training: the batch's own (as published), running ones, or "
        "frozen ones.",
        of_weights=False,
    )
    batch_norm_train_affine: bool = setting(
        True, "Whether scale and bias of batch norm learn.", of_weights=False
    )

    @property
    def moves_statistics(self) -> bool:
        """Whether batch norm updates its running statistics in training."""
        return self.batch_norm_mode != "frozen"

    def group(self, path: Path) -> Group | None:
        """Labels a parameter; published code exempts none of the decoder's from weight decay."""
        if re.fullmatch(self.modules, path[0]) is None:
            return None
        is_frozen = path[-2].endswith("bn") and not self.batch_norm_train_affine
        return Group("frozen" if is_frozen else "decoder")


class EmbedStages(nn.Module):
    """Maps the features of every stage to `width` channels at the size of the first stage's."""

    width: int
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, stages: tuple[jax.Array, ...]) -> list[jax.Array]:
        """Computes [B, h, w, width] of each stage; bilinear, without aligned corners."""
        embedded = []
        for i, features in enumerate(stages, start=1):
            features = layers.Conv(
                self.width,
                1,
                use_bias=True,
                kernel_init=layers.uniform_fan_in_kernel,
                dtype=self.dtype,
                name=f"stage{i}",
            )(features)
            embedded.append(resampling.resize_bilinear(features, stages[0].shape[1:3]))
        return embedded


class ConvNorm(nn.Module):
    """Applies a convolution that keeps the size, batch norm and ReLU.

    A separable one applies these three for each channel alone, and then across channels.
    """

    width: int
    kernel_size: int
    norm_mode: layers.BatchNormMode
    train_affine: bool
    dtype: jnp.dtype | None
    dilation: int = 1
    is_separable: bool = False

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Computes [B, h, w, C] -> [B, h, w, width]."""
        kernel_size = self.kernel_size
        if self.is_separable:
            inputs = layers.DepthwiseConv(
                kernel_size,
                dilation=self.dilation,
                kernel_init=_KAIMING,
                dtype=self.dtype,
                name="depth",
            )(inputs)
            norm = layers.BatchNorm(self.norm_mode, self.train_affine, name="depth_bn")
            inputs = layers.relu(norm(inputs, train=train))
            kernel_size = 1
        features = layers.Conv(
            self.width,
            kernel_size,
            dilation=self.dilation,
            padding=self.dilation * (kernel_size // 2),
            kernel_init=_KAIMING,
            dtype=self.dtype,
            name="conv",
        )(inputs)
        norm = layers.BatchNorm(self.norm_mode, self.train_affine, name="bn")
        return layers.relu(norm(features, train=train))


def drop_channels(module: nn.Module, features: jax.Array, rate: float, *, train: bool) -> jax.Array:
    """Sets whole channels to 0 in training, drawn for each image.

    Args:
      module: the module that the draw belongs to, inside of its `__call__`.
      features: [B, h, w, C].
      rate: share of the channels.
      train: whether any are dropped.
    """
    if rate == 0 or not train:
        return features
    dropout = nn.Dropout(rate, broadcast_dims=(1, 2))
    # A key of the module, so that a second call draws other channels.
    return dropout(features, deterministic=False, rng=module.make_rng("dropout"))
