"""Defines the block of a mix transformer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.models import layers, transformer

# Of the norm of patches, and of the norm after the reduction of keys and values.
EPSILON = 1e-5


def normal_fan_out(
    rng: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    """Draws a HWIO kernel from N(0, 2 / (height * width * outputs of a group))."""
    fan_out = int(np.prod(shape[:2])) * (1 if shape[2] == 1 else shape[3])
    return np.sqrt(2 / fan_out) * jax.random.normal(rng, shape, dtype)


class Block(nn.Module):
    """Applies attention with reduced keys and values, and an MLP with a depthwise convolution."""

    num_heads: int
    mlp_ratio: int
    reduction: int
    epsilon: float
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, features: jax.Array, drop_rate: jax.Array, drops: bool) -> jax.Array:
        """Computes [B, h, w, C] -> [B, h, w, C].

        Args:
          features: feature maps.
          drop_rate: share of images for which a branch is skipped.
          drops: whether branches are skipped.
        """
        for name, compute in (("norm1", self._attend), ("norm2", self._transform)):
            normed = transformer.layer_norm(self.epsilon, self.dtype, name)(features)
            branch = compute(normed)
            if drops:
                branch = transformer.drop_path(branch, drop_rate, self.make_rng("dropout"))
            features = features + branch
        return features

    def _attend(self, features: jax.Array) -> jax.Array:
        width = features.shape[-1]
        (queries,) = transformer.split_heads(
            transformer.linear(width, self.dtype, "attn_q")(features), 1, self.num_heads
        )
        reduced = features
        if self.reduction > 1:
            reduced = layers.Conv(
                width,
                self.reduction,
                stride=self.reduction,
                use_bias=True,
                kernel_init=normal_fan_out,
                bias_init=nn.initializers.zeros,
                dtype=self.dtype,
                name="attn_sr",
            )(features)
            reduced = transformer.layer_norm(EPSILON, self.dtype, "attn_norm")(reduced)
        keys, values = transformer.split_heads(
            transformer.linear(2 * width, self.dtype, "attn_kv")(reduced), 2, self.num_heads
        )
        attended = transformer.attend(queries, keys, values).reshape(features.shape)
        return transformer.linear(width, self.dtype, "attn_proj")(attended)

    def _transform(self, features: jax.Array) -> jax.Array:
        width = features.shape[-1]
        hidden = transformer.linear(self.mlp_ratio * width, self.dtype, "mlp_fc1")(features)
        hidden = layers.DepthwiseConv(
            3, use_bias=True, kernel_init=normal_fan_out, dtype=self.dtype, name="mlp_dwconv"
        )(hidden)
        return transformer.linear(width, self.dtype, "mlp_fc2")(transformer.gelu(hidden))
