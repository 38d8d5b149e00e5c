"""The two networks behind one small interface, the only place that knows flax.linen.

Synopsis:

  segmenter = create_segmenter(config.model, num_classes)
  params, model_state = segmenter.init(rng)
  logits, model_state = segmenter.apply(params, model_state, images, train=True)
  logits["main"]      # and logits["aux"] when config.model.aux_classifier
"""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from alp_jax.models import deeplab, resnet
from alp_jax.models.deeplab import AUX, MAIN
from alp_jax.models.discriminator import Discriminator
from alp_jax.models.layers import ACTIVATION_DTYPES

__all__ = [
    "AUX",
    "KERNEL_INITS",
    "MAIN",
    "DomainDiscriminator",
    "Segmenter",
    "create_discriminator",
    "create_segmenter",
]

PyTree = Any

KERNEL_INITS = {
    "he_normal": nn.initializers.he_normal(),
    "normal_0.01": nn.initializers.normal(0.01),
}


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """f: images to logits at the output stride, with batch-norm statistics as model_state."""

    module: deeplab.DeepLabV2

    @property
    def heads(self) -> tuple[str, ...]:
        """The classifiers: MAIN, and AUX where there is one."""
        return (MAIN,) if self.module.aux_classifier is None else (MAIN, AUX)

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        """Creates (params, model_state) from a typed key."""
        images = jnp.zeros((1, 64, 64, 3), jnp.float32)
        variables = self.module.init(rng, images, train=False)
        return variables["params"], {"batch_stats": variables["batch_stats"]}

    def apply(
        self, params: PyTree, model_state: PyTree, images: jax.Array, *, train: bool
    ) -> tuple[dict[str, jax.Array], PyTree]:
        """Computes (logits by head [B, h, w, C], new model_state) of RGB [B, H, W, 3], 0..255."""
        variables = {"params": params, **model_state}
        if not train:
            logits = self.module.apply(variables, images, train=False)
            return cast(dict[str, jax.Array], logits), model_state
        logits, new_model_state = self.module.apply(
            variables, images, train=True, mutable=["batch_stats"]
        )
        return cast(dict[str, jax.Array], logits), new_model_state


@dataclasses.dataclass(frozen=True)
class DomainDiscriminator:
    """d: aligned maps to domain logits; it has no state beside its parameters."""

    module: Discriminator
    num_classes: int

    def init(self, rng: jax.Array) -> PyTree:
        """Creates params from a typed key."""
        maps = jnp.zeros((1, 64, 64, self.num_classes), jnp.float32)
        return self.module.init(rng, maps)["params"]

    def apply(self, params: PyTree, maps: jax.Array) -> jax.Array:
        """Computes domain logits [B, h, w, 1] of maps [B, H, W, K]."""
        return cast(jax.Array, self.module.apply({"params": params}, maps))


def create_segmenter(config: ml_collections.ConfigDict, num_classes: int) -> Segmenter:
    """Creates the network of `config.model` (fields: configs/default.py)."""
    dtype = ACTIVATION_DTYPES[config.activation_dtype]
    backbone = resnet.Backbone(
        stem=config.stem,
        stem_widths=tuple(config.stem_widths),
        block=config.block,
        stride_in=config.stride_in,
        depths=tuple(config.depths),
        widths=tuple(config.widths),
        strides=tuple(config.strides),
        dilations=tuple(config.dilations),
        batch_norm_mode=config.batch_norm_mode,
        train_affine=config.batch_norm_train_affine,
        kernel_init=KERNEL_INITS[config.kernel_init],
        dtype=dtype,
        rematerialise=config.rematerialise,
        scan_blocks=config.scan_blocks,
    )

    def create_classifier() -> deeplab.AsppClassifier:
        return deeplab.AsppClassifier(num_classes, tuple(config.classifier_dilations), dtype)

    return Segmenter(
        deeplab.DeepLabV2(
            backbone,
            create_classifier(),
            create_classifier() if config.aux_classifier else None,
            input_order=config.input_order,
            input_mean=tuple(config.input_mean),
            input_std=tuple(config.input_std),
        )
    )


def create_discriminator(
    config: ml_collections.ConfigDict, num_classes: int
) -> DomainDiscriminator:
    """Creates the network of `config.discriminator`."""
    dtype = ACTIVATION_DTYPES[config.activation_dtype]
    return DomainDiscriminator(Discriminator(tuple(config.widths), dtype), num_classes)
