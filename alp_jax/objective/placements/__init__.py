"""Placements of patches on a prediction: one file a kind, which ends with `PLACEMENT = CLASS`."""

from alp_jax.objective.types import Placement as BASE

__all__ = ["BASE"]
