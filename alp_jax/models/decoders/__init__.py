"""Defines decoders: one file for each kind, which ends with `DECODER = CLASS`."""

from alp_jax.models.parts import Decoder as BASE

__all__ = ["BASE"]
