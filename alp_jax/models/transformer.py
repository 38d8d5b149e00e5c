"""Defines layers of vision transformers: linear maps, layer norm, attention, stochastic depth."""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models.layers import Initializer

# cuDNN's attention takes these types, and heads of a multiple of 8 channels up to 128.
_CUDNN_TYPES = (jnp.bfloat16, jnp.float16)
_CUDNN_MULTIPLE, _CUDNN_MOST = 8, 128
# Published code cuts the normal distribution at 2, which is 100 standard deviations.
NORMAL_002: Initializer = nn.initializers.normal(0.02)


def linear(features: int, dtype: jnp.dtype | None, name: str) -> nn.Dense:
    """Creates a linear layer over the last axis, with N(0, 0.02) and a bias of 0."""
    return nn.Dense(features, dtype=dtype, kernel_init=NORMAL_002, name=name)


def layer_norm(epsilon: float, dtype: jnp.dtype | None, name: str) -> nn.LayerNorm:
    """Creates a layer norm over the last axis; its statistics have single precision."""
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, use_fast_variance=False, name=name)


def gelu(inputs: jax.Array) -> jax.Array:
    """Computes the exact GELU, with the error function."""
    return jax.nn.gelu(inputs, approximate=False)


def attend(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
    """Computes scaled dot-product attention by `jax.nn.dot_product_attention`.

    On a GPU, in half precision and with heads that fit, cuDNN computes it, without ever storing the
    [B, N, T, S] weights; XLA computes everything else, and stores them in single precision.

    Args:
      queries: [B, T, N, H] of N heads with H channels.
      keys, values: [B, S, N, H].
    Returns:
      [B, T, N, H].
    """
    width = queries.shape[-1]

    def by_xla(*arrays: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(*arrays, implementation="xla")

    def by_cudnn(*arrays: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(*arrays, implementation="cudnn")

    fits = width % _CUDNN_MULTIPLE == 0 and width <= _CUDNN_MOST and queries.dtype in _CUDNN_TYPES
    # Only where there is a GPU, as tracing cuDNN's form needs its library.
    if fits and jax.default_backend() == "gpu":
        found = jax.lax.platform_dependent(queries, keys, values, cuda=by_cudnn, default=by_xla)
        return cast(jax.Array, found)
    return by_xla(queries, keys, values)


def split_heads(features: jax.Array, parts: int, num_heads: int) -> list[jax.Array]:
    """Splits [B, ..., parts * N * H] into `parts` arrays [B, T, N, H], with T all other axes."""
    batch, channels = features.shape[0], features.shape[-1]
    width = channels // parts // num_heads
    split = features.reshape(batch, -1, parts, num_heads, width)
    return [split[:, :, part] for part in range(parts)]


def drop_path(branch: jax.Array, rate: jax.Array, key: jax.Array) -> jax.Array:
    """Sets the branch of a residual block to 0 in some images: stochastic depth.

    Args:
      branch: [B, ...].
      rate: share of the images, drawn for each; the others are divided by 1 - rate.
      key: typed key.
    """
    shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
    kept = jax.random.bernoulli(key, 1 - rate, shape) / (1 - rate)
    return branch * kept.astype(branch.dtype)
