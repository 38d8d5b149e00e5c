"""Defines DAFormer's decoder: every stage embedded and joined, then a separable dilated pyramid.

Hoyer et al., CVPR 2022, as lhoyer/DAFormer builds it: without image pooling. Deviation: none.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import fusion, layers
from alp_jax.settings.schema import setting

_KERNEL_SIZE = 3


@dataclasses.dataclass(frozen=True)
class DaFormerSettings(fusion.FusionSettings):
    """Settings of DAFormer's decoder, which reads all stages up to `stage`."""

    modules = r"embed|branch\d+|bottleneck|out"

    width: int = setting(
        256, "Channels that every stage is embedded to, and of every branch.", at_least=1
    )
    dilations: tuple[int, ...] = setting(
        (1, 6, 12, 18),
        "Dilations of the branches: separable 3x3 convolutions, and a 1x1 convolution for 1.",
        above=0,
        non_empty=True,
    )

    def create(self, num_classes: int, dtype: jnp.dtype | None) -> "DaFormer":
        """Creates the network."""
        return DaFormer(num_classes, self, dtype)


class DaFormer(nn.Module):
    """Computes logits at the size of the first stage's features."""

    num_classes: int
    settings: DaFormerSettings
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, stages: tuple[jax.Array, ...], *, train: bool) -> jax.Array:
        """Computes logits [B, h, w, num_classes], at least in single precision."""
        of = self.settings
        create = functools.partial(
            fusion.ConvNorm,
            of.width,
            norm_mode=of.batch_norm_mode,
            train_affine=of.batch_norm_train_affine,
            dtype=self.dtype,
        )
        embedded = fusion.EmbedStages(of.width, self.dtype, name="embed")(stages)
        features = jnp.concatenate(embedded, axis=-1)
        branches = []
        for i, dilation in enumerate(of.dilations):
            branch = create(
                kernel_size=1 if dilation == 1 else _KERNEL_SIZE,
                dilation=dilation,
                is_separable=dilation > 1,
                name=f"branch{i}",
            )
            branches.append(branch(features, train=train))
        bottleneck = create(kernel_size=_KERNEL_SIZE, name="bottleneck")
        features = bottleneck(jnp.concatenate(branches, axis=-1), train=train)
        features = fusion.drop_channels(self, features, of.dropout_rate, train=train)
        logits = layers.Conv(
            self.num_classes,
            1,
            use_bias=True,
            kernel_init=nn.initializers.normal(0.01),
            bias_init=nn.initializers.zeros,
            dtype=self.dtype,
            name="out",
        )(features)
        return layers.at_least_single(logits)


DECODER = DaFormerSettings
