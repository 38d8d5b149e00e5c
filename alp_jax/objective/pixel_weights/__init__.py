"""Weights of pixels in an alignment: one file per kind, ending with `PIXEL_WEIGHTS = CLASS`."""

from alp_jax.objective.pixel_weighting import PixelWeights as BASE

__all__ = ["BASE"]
