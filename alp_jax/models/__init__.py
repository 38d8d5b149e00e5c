"""The networks: the only package that imports flax.linen.

Synopsis:

  segmenter = create_segmenter(config.model, num_classes)
"""

import flax.linen as nn

from alp_jax.models import deeplab, resnet
from alp_jax.models.deeplab import AUX
from alp_jax.models.layers import ACTIVATION_DTYPES
from alp_jax.models.segmenter import MAIN, Segmenter
from alp_jax.models.settings import ModelSettings

__all__ = [
    "AUX",
    "KERNEL_INITS",
    "MAIN",
    "Segmenter",
    "create_segmenter",
]

KERNEL_INITS = {
    "he_normal": nn.initializers.he_normal(),
    "normal_0.01": nn.initializers.normal(0.01),
}


def create_segmenter(config: ModelSettings, num_classes: int) -> Segmenter:
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

    network = deeplab.DeepLabV2(
        backbone,
        create_classifier(),
        create_classifier() if config.aux_classifier else None,
        input_order=config.input_order,
        input_mean=tuple(config.input_mean),
        input_std=tuple(config.input_std),
    )
    return Segmenter(network, (MAIN, AUX) if config.aux_classifier else (MAIN,), num_classes)
