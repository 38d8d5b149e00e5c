"""Defines the domain discriminator d: fully convolutional, 4x4 convolutions of stride 2."""

import dataclasses
from typing import Any, Self, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import layers

PyTree = Any

LEAKY_SLOPE = 0.2


class Discriminator(nn.Module):
    """Classifies maps by domain: [B, H, W, K] -> [B, H / 2^n, W / 2^n, 1] logits.

    It has n = len(widths) + 1 convolutions (AdvEnt: widths 64, 128, 256, 512, so 5), no
    normalisation and no sigmoid. The receptive field of five convolutions is 94 pixels.

    Attributes:
      widths: channels of all convolutions but the last, which has one.
      dtype: type of activations, see `layers.Conv`.
    """

    widths: tuple[int, ...]
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, maps: jax.Array) -> jax.Array:
        """Computes the logit of the target domain for each cell, at least in single precision."""
        features = maps
        for i, width in enumerate((*self.widths, 1)):
            if i > 0:
                features = nn.leaky_relu(features, LEAKY_SLOPE)
            features = layers.Conv(
                width,
                4,
                stride=2,
                padding=1,
                use_bias=True,
                kernel_init=layers.uniform_fan_in_kernel,
                dtype=self.dtype,
                name=f"conv{i}",
            )(features)
        return layers.at_least_single(features)


@dataclasses.dataclass(frozen=True)
class DomainDiscriminator:
    """Computes domain logits of the maps to align; has no state except its parameters."""

    module: Discriminator

    @classmethod
    def create(cls, widths: tuple[int, ...], activation_dtype: layers.ActivationDtype) -> Self:
        """Creates the network."""
        return cls(Discriminator(tuple(widths), layers.ACTIVATION_DTYPES[activation_dtype]))

    def init(self, rng: jax.Array, num_classes: int) -> PyTree:
        """Creates params from a typed key."""
        maps = jnp.zeros((1, 64, 64, num_classes), jnp.float32)
        return self.module.init(rng, maps)["params"]

    def apply(self, params: PyTree, maps: jax.Array) -> jax.Array:
        """Computes domain logits [B, h, w, 1] of maps [B, H, W, K]."""
        return cast(jax.Array, self.module.apply({"params": params}, maps))


def min_input_size(widths: tuple[int, ...]) -> int:
    """Returns the smallest side that leaves one cell: each convolution halves it, rounding down."""
    return 2 ** (len(widths) + 1)
