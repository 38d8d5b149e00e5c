"""Defines DeepLabv2's decoder: atrous spatial pyramid pooling, a sum of dilated convolutions."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import layers
from alp_jax.models.parts import Decoder, Group
from alp_jax.models.published import Path, name_as_torch
from alp_jax.settings.schema import setting

# Branches of each module in a published file, including those that its forward pass skips.
_PUBLISHED_BRANCHES = 4


@dataclasses.dataclass(frozen=True)
class AsppSettings(Decoder):
    """Settings of DeepLabv2's decoder."""

    dilations: tuple[int, ...] = setting(
        (6, 12, 18, 24),
        "Dilations of the 3x3 convolutions whose outputs are summed to logits.",
        above=0,
        non_empty=True,
    )
    dropout_rate: float = setting(
        0.0,
        "Share of the features' channels that training sets to 0, drawn for each image (ADR: 0.1).",
        at_least=0,
        below=1,
        of_weights=False,
    )
    published_modules: ClassVar[tuple[str, ...]] = ("conv2d_list",)

    def create(self, num_classes: int, dtype: jnp.dtype | None) -> "Aspp":
        """Creates the network."""
        return Aspp(num_classes, self.dilations, dtype, self.dropout_rate)

    def group(self, path: Path) -> Group | None:
        """Labels a parameter; all have the same group."""
        known = path[0].startswith("branch") and path[-1] in ("kernel", "bias")
        return Group("decoder") if known else None

    def published_key(self, path: Path, modules: tuple[str, ...]) -> str:
        """Returns the key in files of AdaptSegNet and derived code: layer6.conv2d_list.0.bias."""
        branch, leaf = path
        number = int(branch.removeprefix("branch"))
        part, place = divmod(number, len(self.dilations) // len(modules))
        return f"{modules[part]}.conv2d_list.{place}.{name_as_torch(leaf)}"

    @classmethod
    def published_logits_key(cls, module: str) -> str:
        """Returns the key of the first branch's kernel."""
        return f"{module}.conv2d_list.0.weight"

    def list_published_extras(self, modules: tuple[str, ...]) -> dict[str, str]:
        """Maps the tensors of branches that the forward pass skips to the first branch's."""
        reached = len(self.dilations) // len(modules)
        return {
            f"{module}.conv2d_list.{branch}.{leaf}": f"{module}.conv2d_list.0.{leaf}"
            for module in modules
            for branch in range(reached, _PUBLISHED_BRANCHES)
            for leaf in ("weight", "bias")
        }


class Aspp(nn.Module):
    """Sums dilated 3x3 convolutions of the last features to one logit map."""

    num_classes: int
    dilations: tuple[int, ...]
    dtype: jnp.dtype | None
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, stages: tuple[jax.Array, ...], *, train: bool) -> jax.Array:
        """Computes logits [B, h, w, num_classes], at least in single precision."""
        features = stages[-1]
        if self.dropout_rate > 0 and train:
            whole_channels = nn.Dropout(self.dropout_rate, broadcast_dims=(1, 2))
            # A key of this module, so that a second call draws other channels.
            key = self.make_rng("dropout")
            features = whole_channels(features, deterministic=False, rng=key)
        branches = [
            layers.Conv(
                self.num_classes,
                3,
                dilation=dilation,
                padding=dilation,
                use_bias=True,
                kernel_init=nn.initializers.normal(0.01),
                dtype=self.dtype,
                name=f"branch{i}",
            )(features)
            for i, dilation in enumerate(self.dilations)
        ]
        precise = [layers.at_least_single(branch) for branch in branches]
        return sum(precise[1:], precise[0])


DECODER = AsppSettings
