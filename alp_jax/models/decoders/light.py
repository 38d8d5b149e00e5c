"""Defines VFM-UDA's light decoder: two transposed convolutions and two convolutions.

Englert et al., CVPR Workshops 2024, as tue-mps/vfm-uda builds it. There is a GELU after the first
transposed convolution only, as in that code.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import layers, transformer
from alp_jax.models.parts import Decoder, Group
from alp_jax.models.published import Path

_EPSILON = 1e-6
# Each transposed convolution doubles the size and halves the channels.
_FACTOR = 2
_NAMES = ("up1", "norm1", "up2", "norm2", "conv", "norm3", "out")


@dataclasses.dataclass(frozen=True)
class LightSettings(Decoder):
    """Settings of VFM-UDA's light decoder, which reads only the last of its stages."""

    def create(self, num_classes: int, dtype: jnp.dtype | None) -> "Light":
        """Creates the network."""
        return Light(num_classes, dtype)

    def group(self, path: Path) -> Group | None:
        """Labels a parameter; weight decay exempts layer norm."""
        known = path[0] in _NAMES and path[-1] in ("kernel", "scale", "bias")
        return Group("decoder", decays=path[-1] == "kernel") if known else None


class Upscale(nn.Module):
    """Doubles height and width by a transposed convolution of 2x2 with stride 2."""

    features: int
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Computes [B, h, w, C] -> [B, 2 h, 2 w, features]; no two kernels overlap."""
        shape = (_FACTOR, _FACTOR, inputs.shape[-1], self.features)
        # PyTorch counts the fan-in of a transposed kernel by its outputs.
        fan_in = _FACTOR * _FACTOR * self.features
        kernel = self.param(
            "kernel", lambda rng, shape: layers.uniform_fan_in(rng, shape, fan_in), shape
        )
        inputs, kernel = nn.dtypes.promote_dtype(inputs, kernel, dtype=self.dtype)
        outputs = jnp.einsum("bhwc,yxcd->bhywxd", inputs, kernel)
        batch, height, _, width, _, _ = outputs.shape
        size = (_FACTOR * height, _FACTOR * width)
        return outputs.reshape(batch, *size, self.features)


class Light(nn.Module):
    """Computes logits at a quarter of the stride of the features."""

    num_classes: int
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, stages: tuple[jax.Array, ...], *, train: bool) -> jax.Array:
        """Computes logits [B, 4 h, 4 w, num_classes], at least in single precision."""
        del train
        features = stages[-1]
        width = features.shape[-1] // _FACTOR
        features = Upscale(width, self.dtype, name="up1")(features)
        features = transformer.layer_norm(_EPSILON, self.dtype, "norm1")(features)
        features = transformer.gelu(features)
        width //= _FACTOR
        features = Upscale(width, self.dtype, name="up2")(features)
        features = transformer.layer_norm(_EPSILON, self.dtype, "norm2")(features)
        features = layers.Conv(
            width,
            3,
            padding=1,
            kernel_init=layers.uniform_fan_in_kernel,
            dtype=self.dtype,
            name="conv",
        )(features)
        features = transformer.layer_norm(_EPSILON, self.dtype, "norm3")(features)
        logits = layers.Conv(
            self.num_classes,
            1,
            kernel_init=nn.initializers.normal(0.1),
            dtype=self.dtype,
            name="out",
        )(features)
        return layers.at_least_single(logits)


DECODER = LightSettings
