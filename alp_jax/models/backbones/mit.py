"""Defines SegFormer's mix transformers: MiT-B0 to B5.

Xie et al., NeurIPS 2021, as NVlabs/SegFormer builds them. Deviation: none.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.models import layers, mix, transformer
from alp_jax.models.blocks import apply_blocks
from alp_jax.models.parts import Backbone, Group
from alp_jax.models.published import (
    IMAGENET_PIXELS,
    Layout,
    Names,
    Path,
    SizeOf,
    Unused,
    name_as_torch,
)
from alp_jax.settings.schema import refuse, setting

_B1 = {"widths": (64, 128, 320, 512)}
# Values of fields for configurations; the others keep their defaults.
VARIANTS: dict[str, dict[str, Any]] = {
    "mit_b0": {"widths": (32, 64, 160, 256), "depths": (2, 2, 2, 2)},
    "mit_b1": {**_B1, "depths": (2, 2, 2, 2)},
    "mit_b2": {**_B1, "depths": (3, 4, 6, 3)},
    "mit_b3": {**_B1, "depths": (3, 4, 18, 3)},
    "mit_b4": {**_B1, "depths": (3, 8, 27, 3)},
    "mit_b5": {**_B1, "depths": (3, 6, 40, 3)},
    "tiny": {
        "widths": (4, 6, 8, 8),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 2, 2),
        "mlp_ratios": (2, 2, 2, 2),
    },
}
FourStages = Annotated[tuple[int, int, int, int], "4 whole numbers from 1, one for each stage", 1]
_STAGES = (1, 2, 3, 4)
_KERNEL_SIZES, _STRIDES = (7, 3, 3, 3), (4, 2, 2, 2)
_TRANSFORMERS_BLOCK: Names = {
    "norm1": "layer_norm_1",
    "attn.q": "attention.self.query",
    "attn.kv": ("attention.self.key", "attention.self.value"),
    "attn.sr": "attention.self.sr",
    "attn.norm": "attention.self.layer_norm",
    "attn.proj": "attention.output.dense",
    "norm2": "layer_norm_2",
    "mlp.fc1": "mlp.dense1",
    "mlp.dwconv": "mlp.dwconv",
    "mlp.fc2": "mlp.dense2",
}


def _name_in_transformers() -> Iterator[tuple[str, str | tuple[str, ...]]]:
    """Yields our names and those of transformers, which counts stages from 0."""
    encoder = "segformer.encoder"
    for stage in _STAGES:
        patches = f"{encoder}.patch_embeddings.{stage - 1}"
        yield f"patch_embed{stage}.proj", f"{patches}.proj"
        yield f"patch_embed{stage}.norm", f"{patches}.layer_norm"
        yield f"norm{stage}", f"{encoder}.layer_norm.{stage - 1}"
        block = f"{encoder}.block.{stage - 1}.{{}}"
        for name, given in _TRANSFORMERS_BLOCK.items():
            names = (given,) if isinstance(given, str) else given
            yield f"block{stage}.{{}}.{name}", tuple(f"{block}.{one}" for one in names)


_create_layout = functools.partial(
    Layout,
    pixels=IMAGENET_PIXELS,
    kind="mit",
    licence="NVIDIA Source Code License, which permits research and evaluation only, no "
    "commercial use",
)


@dataclasses.dataclass(frozen=True)
class MitSettings(Backbone):
    """Settings of a mix transformer; the default is MiT-B5."""

    widths: FourStages = setting((64, 128, 320, 512), "Channels in each of the four stages.")
    depths: FourStages = setting((3, 6, 40, 3), "Blocks in each stage.", at_least=1)
    num_heads: FourStages = setting(
        (1, 2, 5, 8), "Heads of the attention in each stage, which share the channels."
    )
    mlp_ratios: FourStages = setting(
        (4, 4, 4, 4), "Hidden channels of the MLP for each channel, in each stage."
    )
    reductions: FourStages = setting(
        (8, 4, 2, 1),
        "Factor by which height and width of keys and values are reduced, in each stage.",
    )
    norm_epsilon: float = setting(
        1e-6,
        "Added to variances in the norms of blocks and stages: 1e-6 as published, 1e-5 in "
        "transformers.",
        above=0,
    )
    drop_path_rate: float = setting(
        0.1,
        "Share of the images for which training skips a branch of the last block; it grows from 0 "
        "in the first one linearly.",
        at_least=0,
        below=1,
        of_weights=False,
    )
    scan_blocks: bool = setting(
        True,
        "Whether the blocks of a stage run as one loop, with the same values, which compiles "
        "sooner. What drop_path_rate draws differs.",
        of_weights=False,
    )
    rematerialise: bool = setting(
        False,
        "Whether activations inside blocks are recomputed for the gradient instead of stored: less "
        "memory, a third more arithmetic.",
        of_weights=False,
    )
    published: ClassVar[Mapping[str, Layout]] = {
        "mit": _create_layout(
            "SegFormer's backbone",
            fields={},
            unused=(Unused(r"head\.(weight|bias)", "head, the classifier of ImageNet"),),
            has=("patch_embed1.proj.weight", "block1.0.attn.kv.weight"),
        ),
        "mit_transformers": _create_layout(
            "SegFormer's backbone of transformers",
            fields={"norm_epsilon": 1e-5},
            unused=(Unused(r"classifier\.(weight|bias)", "classifier, of ImageNet"),),
            names=dict(_name_in_transformers()),
            has=("segformer.encoder.patch_embeddings.0.proj.weight",),
        ),
    }
    published_modules: ClassVar[tuple[str, ...]] = (
        *(f"patch_embed{stage}" for stage in _STAGES),
        *("block1", "norm1", "attn", "block2", "norm2", "block3", "norm3", "block4", "norm4"),
        *("mlp", "fc1", "dwconv", "fc2", "q", "kv", "proj", "sr", "norm"),
    )

    def check(self, name: str) -> None:
        """Refuses heads that cannot share the channels of their stage."""
        if any(width % heads for width, heads in zip(self.widths, self.num_heads, strict=True)):
            expected = f"divisors of {name}.widths, {list(self.widths)}"
            refuse(f"{name}.num_heads", self.num_heads, expected)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels in each stage."""
        return self.widths

    @property
    def init_size(self) -> tuple[int, int]:
        """A size whose last stage has more than one position each way."""
        return (128, 128)

    def create(self, dtype: jnp.dtype | None) -> "Mit":
        """Creates the network."""
        return Mit(self, dtype)

    def group(self, path: Path) -> Group | None:
        """Labels a parameter; its depth is the stage, from 0.

        Weight decay exempts layer norm, as SegFormer's and DAFormer's configurations do.
        """
        module = re.fullmatch(r"(patch_embed|block|norm)([1-4])(_\w+)?", path[0])
        if module is None:
            return None
        is_norm = any("norm" in name for name in path[:-1])
        return Group("backbone", decays=not is_norm, depth=int(module[2]) - 1)

    @classmethod
    def read_fields(cls, size_of: SizeOf, keys: Iterable[str]) -> dict[str, Any]:
        """Reads widths, depths and ratios of a published network."""
        blocks = {match[0] for key in keys if (match := re.match(r"block[1-4]\.\d+\.", key))}
        widths = tuple(size_of(f"patch_embed{stage}.proj.weight") for stage in _STAGES)
        hidden = [size_of(f"block{stage}.0.mlp.fc1.weight") for stage in _STAGES]
        return {
            "widths": widths,
            "depths": tuple(
                sum(block.startswith(f"block{stage}.") for block in blocks) for stage in _STAGES
            ),
            "mlp_ratios": tuple(n // width for n, width in zip(hidden, widths, strict=True)),
        }

    def published_key(self, path: Path) -> str:
        """Returns the key in a file of NVlabs/SegFormer: block1.0.attn.kv.bias."""
        *modules, leaf = path
        names = [re.sub(r"^(patch_embed\d|block\d|attn|mlp)_", r"\1.", name) for name in modules]
        key = ".".join([*names, name_as_torch(leaf)])
        return key.replace("mlp.dwconv", "mlp.dwconv.dwconv")


class Mit(nn.Module):
    """Computes the features of four stages, of strides 4, 8, 16 and 32.

    Attributes:
      settings: settings of the network.
      dtype: type of activations, see `layers.Conv`.
    """

    settings: MitSettings
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> list[jax.Array]:
        """Computes [B, h, w, C] of each stage; `train` skips branches."""
        of = self.settings
        rates = np.linspace(0, of.drop_path_rate, sum(of.depths), dtype=np.float32)
        drops = train and of.drop_path_rate > 0
        # Argument 3 of a block's __call__ is `drops`; 0 is `self`.
        create_block = nn.remat(mix.Block, static_argnums=(3,)) if of.rematerialise else mix.Block
        features, outputs, first = images, [], 0
        for i, stage in enumerate(_STAGES):
            features = layers.Conv(
                of.widths[i],
                _KERNEL_SIZES[i],
                stride=_STRIDES[i],
                padding=_KERNEL_SIZES[i] // 2,
                use_bias=True,
                kernel_init=mix.normal_fan_out,
                bias_init=nn.initializers.zeros,
                dtype=self.dtype,
                name=f"patch_embed{stage}_proj",
            )(features)
            name = f"patch_embed{stage}_norm"
            features = transformer.layer_norm(mix.EPSILON, self.dtype, name)(features)
            create = [
                functools.partial(
                    create_block,
                    of.num_heads[i],
                    of.mlp_ratios[i],
                    of.reductions[i],
                    of.norm_epsilon,
                    self.dtype,
                    name=f"block{stage}_{block}",
                )
                for block in range(of.depths[i])
            ]
            features = apply_blocks(
                self,
                create,
                features,
                drops,
                in_loop=of.scan_blocks,
                dtype=self.dtype,
                key=self.make_rng("dropout") if drops else None,
                of_each=jnp.asarray(rates[first : first + of.depths[i]]),
            )
            name = f"norm{stage}"
            features = transformer.layer_norm(of.norm_epsilon, self.dtype, name)(features)
            outputs.append(features)
            first += of.depths[i]
        return outputs


BACKBONE = MitSettings
