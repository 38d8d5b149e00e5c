"""Defines backbones: one file for each kind, which ends with `BACKBONE = CLASS`."""

from alp_jax.models.parts import Backbone as BASE

__all__ = ["BASE"]
