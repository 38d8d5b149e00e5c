"""Defines the networks; the only package that imports flax.linen.

Synopsis:

  segmenter = create_segmenter(build(ModelSettings, config.model), num_classes)
"""

from alp_jax.models.segmenter import MAIN, Outputs, Segmenter
from alp_jax.models.settings import ModelSettings, create_segmenter

__all__ = ["MAIN", "ModelSettings", "Outputs", "Segmenter", "create_segmenter"]
