"""Defines SegFormer's decoder: every stage embedded, joined and mapped to classes, pixel by pixel.

Xie et al., NeurIPS 2021, as NVlabs/SegFormer builds it. Deviation: none.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import fusion, layers
from alp_jax.settings.schema import setting


@dataclasses.dataclass(frozen=True)
class SegFormerSettings(fusion.FusionSettings):
    """Settings of SegFormer's decoder, which reads all stages up to `stage`."""

    modules = "embed|fuse|out"

    width: int = setting(
        256,
        "Channels that every stage is embedded to: 256 with MiT-B0 and B1, 768 with B2 to B5.",
        at_least=1,
    )

    def create(self, num_classes: int, dtype: jnp.dtype | None) -> "SegFormer":
        """Creates the network."""
        return SegFormer(num_classes, self, dtype)


class SegFormer(nn.Module):
    """Computes logits at the size of the first stage's features."""

    num_classes: int
    settings: SegFormerSettings
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, stages: tuple[jax.Array, ...], *, train: bool) -> jax.Array:
        """Computes logits [B, h, w, num_classes], at least in single precision."""
        of = self.settings
        embedded = fusion.EmbedStages(of.width, self.dtype, name="embed")(stages)
        fuse = fusion.ConvNorm(
            of.width, 1, of.batch_norm_mode, of.batch_norm_train_affine, self.dtype, name="fuse"
        )
        # The last stage comes first.
        features = fuse(jnp.concatenate(embedded[::-1], axis=-1), train=train)
        features = fusion.drop_channels(self, features, of.dropout_rate, train=train)
        logits = layers.Conv(
            self.num_classes,
            1,
            use_bias=True,
            kernel_init=layers.uniform_fan_in_kernel,
            dtype=self.dtype,
            name="out",
        )(features)
        return layers.at_least_single(logits)


DECODER = SegFormerSettings
