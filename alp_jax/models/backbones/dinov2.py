"""Defines DINOv2's vision transformers: ViT-S/14, B/14 and L/14, with and without registers.

Oquab et al., TMLR 2024, and Darcet et al., ICLR 2024, as facebookresearch/dinov2 builds them for
its published weights. Left out: stochastic depth, which these are built without, and ViT-g.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.errors import UserError
from alp_jax.models import layers, resampling, transformer, vit
from alp_jax.models.blocks import apply_blocks
from alp_jax.models.parts import Backbone, Group
from alp_jax.models.published import IMAGENET_PIXELS, Layout, Names, Path, SizeOf, name_as_torch
from alp_jax.settings.schema import refuse, setting

_SIZES: dict[str, dict[str, Any]] = {
    "dinov2_vits14": {"width": 384, "depth": 12, "num_heads": 6},
    "dinov2_vitb14": {"width": 768, "depth": 12, "num_heads": 12},
    "dinov2_vitl14": {"width": 1024, "depth": 24, "num_heads": 16},
}
_REGISTERS: dict[str, Any] = {"num_registers": 4, "interpolation": "antialiased"}
VARIANTS: dict[str, dict[str, Any]] = {
    **_SIZES,
    **{f"{name}_reg": {**size, **_REGISTERS} for name, size in _SIZES.items()},
    "tiny": {"width": 16, "depth": 3, "num_heads": 2, "patch_size": 8, "position_grid": 3},
}
_TOKENS = ("cls_token", "pos_embed", "register_tokens", "mask_token")
_HEAD_WIDTH = 64  # Channels, in every published network.
_TRANSFORMERS: Names = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "register_tokens": "embeddings.register_tokens",
    "mask_token": "embeddings.mask_token",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "blocks.{}.norm1": "encoder.layer.{}.norm1",
    "blocks.{}.attn.qkv": (
        "encoder.layer.{}.attention.attention.query",
        "encoder.layer.{}.attention.attention.key",
        "encoder.layer.{}.attention.attention.value",
    ),
    "blocks.{}.attn.proj": "encoder.layer.{}.attention.output.dense",
    "blocks.{}.ls1.gamma": "encoder.layer.{}.layer_scale1.lambda1",
    "blocks.{}.norm2": "encoder.layer.{}.norm2",
    "blocks.{}.mlp.fc1": "encoder.layer.{}.mlp.fc1",
    "blocks.{}.mlp.fc2": "encoder.layer.{}.mlp.fc2",
    "blocks.{}.ls2.gamma": "encoder.layer.{}.layer_scale2.lambda1",
    "norm": "layernorm",
}
_LAYER_SCALE = "blocks.0.ls1.gamma"
_create_layout = functools.partial(
    Layout, pixels=IMAGENET_PIXELS, kind="dinov2", licence="Apache-2.0"
)


@dataclasses.dataclass(frozen=True)
class DinoV2Settings(Backbone):
    """Settings of a DINOv2 vision transformer; the default is ViT-B/14 without registers."""

    width: int = setting(768, "Channels of a token.", at_least=1)
    depth: int = setting(12, "Layers of the transformer.", at_least=1)
    num_heads: int = setting(12, "Heads of the attention, which share the channels.", at_least=1)
    mlp_ratio: int = setting(4, "Hidden channels of the MLP for each of a token.", at_least=1)
    patch_size: int = setting(14, "Side of a patch, in pixels.", at_least=1)
    num_registers: int = setting(
        0, "Register tokens, which the features are read without: 4 in published ones.", at_least=0
    )
    position_grid: int = setting(
        37, "Side of the grid of position embeddings, in patches: 37 of 518 pixels.", at_least=1
    )
    interpolation: vit.Interpolation = setting(
        "offset",
        "How position embeddings are resized, bicubically, to a grid of n patches: by the factor "
        "(n + 0.1) / 37 (offset: the published code for networks without registers); to n (plain: "
        "transformers for these); to n with antialiasing (antialiased: all code for networks with "
        "registers, and timm for all).",
    )
    class_position: bool = setting(
        True,
        "Whether the class token has a position embedding; False for timm's files with registers, "
        "which have it in the token.",
    )
    mask_token: bool = setting(
        True, "Whether there is a token for masked patches; timm's files have none."
    )
    input_scale: float = setting(
        1.0,
        "Factor by which images are resized, bilinearly, before they are cut into patches. Sides "
        "become multiples of a patch: the next smaller (VFM-UDA: 1.1), for a factor of 1 the next "
        "larger, which leaves multiples as they are.",
        above=0,
        of_weights=False,
    )
    output_layers: tuple[int, ...] = setting(
        (-1,),
        "Layers whose normalised tokens are the features of the stages: -1 is the last.",
        at_most=-1,
        non_empty=True,
    )
    scan_blocks: bool = setting(
        True,
        "Whether the layers run as one loop, with the same values; it compiles sooner.",
        of_weights=False,
    )
    rematerialise: bool = setting(
        False,
        "Whether activations inside layers are recomputed for the gradient instead of stored: less "
        "memory, a third more arithmetic.",
        of_weights=False,
    )
    published: ClassVar[Mapping[str, Layout]] = {
        "dinov2": _create_layout(
            "DINOv2, without registers",
            fields={},
            has=(_LAYER_SCALE, "mask_token"),
            lacks=("register_tokens",),
        ),
        "dinov2_registers": _create_layout(
            "DINOv2, with registers",
            fields=_REGISTERS,
            has=(_LAYER_SCALE, "mask_token", "register_tokens"),
        ),
        "dinov2_transformers": _create_layout(
            "DINOv2 of transformers, without registers",
            fields={"interpolation": "plain"},
            names=_TRANSFORMERS,
            has=("embeddings.mask_token",),
            lacks=("embeddings.register_tokens",),
        ),
        "dinov2_registers_transformers": _create_layout(
            "DINOv2 of transformers, with registers",
            fields=_REGISTERS,
            names=_TRANSFORMERS,
            has=("embeddings.mask_token", "embeddings.register_tokens"),
        ),
        "dinov2_timm": _create_layout(
            "DINOv2 of timm, without registers",
            fields={"interpolation": "antialiased", "mask_token": False},
            has=(_LAYER_SCALE,),
            lacks=("mask_token", "reg_token"),
        ),
        "dinov2_registers_timm": _create_layout(
            "DINOv2 of timm, with registers",
            fields={**_REGISTERS, "mask_token": False, "class_position": False},
            names={"register_tokens": "reg_token"},
            has=(_LAYER_SCALE, "reg_token"),
        ),
    }
    published_modules: ClassVar[tuple[str, ...]] = (
        *(*_TOKENS, "patch_embed", "blocks", "norm1", "attn", "qkv", "proj", "ls1"),
        *("norm2", "mlp", "fc1", "fc2", "ls2", "gamma", "norm"),
    )

    def check(self, name: str) -> None:
        """Refuses heads that cannot share the channels, and layers that are not there."""
        if self.width % self.num_heads:
            expected = f"a divisor of {name}.width, {self.width}"
            refuse(f"{name}.num_heads", self.num_heads, expected)
        places = list(self.output_layers)
        if places != sorted(set(places)) or places[0] < -self.depth:
            expected = f"different layers from {-self.depth} to -1, the first one first"
            refuse(f"{name}.output_layers", self.output_layers, expected)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of a token, for every output layer."""
        return (self.width,) * len(self.output_layers)

    @property
    def init_size(self) -> tuple[int, int]:
        """Four patches each way."""
        return (4 * self.patch_size, 4 * self.patch_size)

    def create(self, dtype: jnp.dtype | None) -> "DinoV2":
        """Creates the network."""
        return DinoV2(self, dtype)

    def group(self, path: Path) -> Group | None:
        """Labels a parameter; its depth is 0 before the layers, then 1, 2 ..., as in DINOv2's code.

        Weight decay exempts norms, biases and layer scale, as there, and all tokens, as timm does.
        """
        block = re.fullmatch(r"blocks_(\d+)", path[0])
        if block is None and path[0] not in (*_TOKENS, "patch_embed_proj", "norm"):
            return None
        depth = int(block[1]) + 1 if block else (self.depth + 1) * (path[0] == "norm")
        return Group("backbone", decays=path[-1] == "kernel", depth=depth)

    @classmethod
    def read_fields(cls, size_of: SizeOf, keys: Iterable[str]) -> dict[str, Any]:
        """Reads width and depth of a published network."""
        width = size_of("patch_embed.proj.weight")
        return {
            "width": width,
            "depth": len({match[1] for key in keys if (match := re.match(r"blocks\.(\d+)", key))}),
            "num_heads": max(1, width // _HEAD_WIDTH),
            "mlp_ratio": size_of("blocks.0.mlp.fc1.weight") // width,
        }

    def published_key(self, path: Path) -> str:
        """Returns the key in a file of facebookresearch/dinov2: blocks.0.attn.qkv.bias."""
        *modules, leaf = path
        names = (re.sub("^(patch_embed|blocks|attn|mlp)_", r"\1.", module) for module in modules)
        return ".".join([*names, name_as_torch(leaf)])


class DinoV2(nn.Module):
    """Computes the patch tokens of some layers as feature maps.

    Attributes:
      settings: settings of the network.
      dtype: type of activations, see `layers.Conv`.
    """

    settings: DinoV2Settings
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(
        self, images: jax.Array, *, train: bool, token_mask: jax.Array | None = None
    ) -> list[jax.Array]:
        """Computes [B, h, w, C] of each output layer.

        Args:
          images: [B, H, W, 3], scaled.
          train: without effect, as no layer is random.
          token_mask: [B, h, w] bool; the mask token replaces the patches where it is True.
        """
        del train
        of = self.settings
        size = vit.fit_patches(images.shape[1:3], of.patch_size, of.input_scale)
        images = resampling.resize_bilinear(images, size)
        tokens, grid = self._embed(images, token_mask)
        create_layer = nn.remat(vit.Layer) if of.rematerialise else vit.Layer
        create = [
            functools.partial(
                create_layer, of.num_heads, of.mlp_ratio, self.dtype, name=f"blocks_{i}"
            )
            for i in range(of.depth)
        ]
        norm = transformer.layer_norm(vit.EPSILON, self.dtype, "norm")
        outputs, start = [], 0
        for place in of.output_layers:
            end = of.depth + place + 1
            tokens = apply_blocks(
                self, create[start:end], tokens, in_loop=of.scan_blocks, dtype=self.dtype
            )
            patches = norm(tokens)[:, 1 + of.num_registers :]
            outputs.append(patches.reshape(-1, *grid, of.width))
            start = end
        return outputs

    def _embed(
        self, images: jax.Array, token_mask: jax.Array | None
    ) -> tuple[jax.Array, tuple[int, int]]:
        """Computes the tokens [B, 1 + registers + h * w, C], the class token first, and (h, w)."""
        of = self.settings
        patches = layers.Conv(
            of.width,
            of.patch_size,
            stride=of.patch_size,
            use_bias=True,
            kernel_init=layers.uniform_fan_in_kernel,
            dtype=self.dtype,
            name="patch_embed_proj",
        )(images)
        (batch, height, width, _), dtype = patches.shape, patches.dtype
        position_count = of.position_grid**2 + of.class_position
        positions = self.param("pos_embed", transformer.NORMAL_002, (1, position_count, of.width))
        class_token = self.param("cls_token", nn.initializers.normal(1e-6), (1, 1, of.width))
        if of.mask_token:
            mask_token = self.param("mask_token", nn.initializers.zeros, (1, of.width))
            if token_mask is not None:
                patches = jnp.where(token_mask[..., None], mask_token[0], patches)
        elif token_mask is not None:
            raise UserError("The network has no mask token: expected model.backbone.mask_token.")
        if of.class_position:
            class_token += positions[:, :1]
        first = [class_token]
        if of.num_registers:
            shape = (1, of.num_registers, of.width)
            first.append(self.param("register_tokens", nn.initializers.normal(1e-6), shape))
        positions = positions[:, int(of.class_position) :]
        patches += vit.resize_positions(positions, (height, width), of.interpolation)
        tokens = [
            *(jnp.broadcast_to(token, (batch, *token.shape[1:])) for token in first),
            patches.reshape(batch, -1, of.width),
        ]
        joined = jnp.concatenate([group.astype(dtype) for group in tokens], axis=1)
        return joined, (height, width)


BACKBONE = DinoV2Settings
