"""Defines the layer of a vision transformer, and resizes its inputs, as DINOv2 and VFM-UDA do."""

import functools
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.errors import UserError
from alp_jax.models import resampling, transformer

Interpolation = Literal["offset", "plain", "antialiased"]

# Of every layer norm.
EPSILON = 1e-6
# Added to the number of patches on a side, before it is divided by the grid's side.
_OFFSET = 0.1


def fit_patches(size: tuple[int, ...], patch: int, scale: float) -> tuple[int, int]:
    """Computes the size that images are resized to, a multiple of a patch each way.

    Args:
      size: (height, width) of the images, pixels.
      patch: side of a patch, pixels.
      scale: factor; the next smaller multiples are taken, and for 1 the next larger ones (VFM-UDA).
    Raises:
      UserError: if the images would be smaller than a patch.
    """
    count = math.ceil if scale == 1 else math.floor
    height, width = (count(side * scale / patch) * patch for side in size)
    if 0 in (height, width):
        raise UserError(
            f"Images of {size[0]} x {size[1]} pixels are smaller than a patch of {patch} pixels "
            f"when they are resized by model.backbone.input_scale, {scale:g}: expected larger "
            "images or a larger factor."
        )
    return height, width


def resize_positions(
    positions: jax.Array, size: tuple[int, int], interpolation: Interpolation
) -> jax.Array:
    """Resizes position embeddings of a square grid, bicubically.

    Args:
      positions: [1, n * n, C].
      size: (height, width) of the new grid; the same grid gets the embeddings as they are.
      interpolation: "offset", by the factors (height + 0.1) / n and (width + 0.1) / n; "plain", to
        the size; "antialiased", to the size with antialiasing.
    Returns:
      [1, height, width, C].
    """
    old = math.isqrt(positions.shape[1])
    maps = positions.reshape(1, old, old, positions.shape[-1])
    if size == (old, old):
        return maps
    if interpolation == "antialiased":
        matrices = [resampling.make_antialiased_bicubic(old, new) for new in size]
    else:
        offset = _OFFSET if interpolation == "offset" else 0.0
        matrices = [resampling.make_bicubic(old, new, (new + offset) / old) for new in size]
    return resampling.resize(maps, *matrices)


class LayerScale(nn.Module):
    """Multiplies each channel by a parameter, which the published networks begin at 1."""

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Scales [..., C]."""
        gamma = self.param("gamma", nn.initializers.ones, features.shape[-1:])
        return features * gamma.astype(features.dtype)


class Layer(nn.Module):
    """Applies one layer of the transformer: attention and an MLP, each with its residual."""

    num_heads: int
    mlp_ratio: int
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Computes [B, T, C] -> [B, T, C]."""
        width = tokens.shape[-1]
        linear = functools.partial(transformer.linear, dtype=self.dtype)
        branch = transformer.layer_norm(EPSILON, self.dtype, "norm1")(tokens)
        branch = linear(3 * width, name="attn_qkv")(branch)
        branch = transformer.attend(*transformer.split_heads(branch, 3, self.num_heads))
        branch = linear(width, name="attn_proj")(branch.reshape(tokens.shape))
        tokens += LayerScale(name="ls1")(branch)
        branch = transformer.layer_norm(EPSILON, self.dtype, "norm2")(tokens)
        branch = transformer.gelu(linear(self.mlp_ratio * width, name="mlp_fc1")(branch))
        return tokens + LayerScale(name="ls2")(linear(width, name="mlp_fc2")(branch))
