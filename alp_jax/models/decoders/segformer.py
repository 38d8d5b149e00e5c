"""Defines SegFormer's decoder: every stage embedded, joined and mapped to classes, pixel by pixel.

Xie et al., NeurIPS 2021, as NVlabs/SegFormer builds it. Deviation: none.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import fusion, layers
from alp_jax.models.parts import Decoder, Group
from alp_jax.models.published import Path
from alp_jax.settings.schema import setting

_PARTS = ("embed", "fuse", "out")


@dataclasses.dataclass(frozen=True)
class SegFormerSettings(Decoder):
    """Settings of SegFormer's decoder, which reads all stages up to `stage`."""

    width: int = setting(
        256,
        "Channels that every stage is embedded to: 256 with MiT-B0 and B1, 768 with B2 to B5.",
        at_least=1,
    )
    dropout_rate: float = setting(
        0.1,
        "Share of the joined channels that training sets to 0, drawn for each image.",
        at_least=0,
        below=1,
        of_weights=False,
    )
    batch_norm_mode: layers.BatchNormMode = setting(
        "batch",
        "Statistics that normalise in training: the batch's own (SegFormer), running ones, or "
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

    def create(self, num_classes: int, dtype: jnp.dtype | None) -> "SegFormer":
        """Creates the network."""
        return SegFormer(num_classes, self, dtype)

    def group(self, path: Path) -> Group | None:
        """Labels a parameter; published code exempts none of the decoder's from weight decay."""
        if path[0] not in _PARTS:
            return None
        is_frozen = path[-2] == "bn" and not self.batch_norm_train_affine
        return Group("frozen" if is_frozen else "decoder")


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
