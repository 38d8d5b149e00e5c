"""Placements of patches on a prediction: one file per kind, ending with `PLACEMENT = CLASS`."""

from alp_jax.objective.types import Placement as BASE

__all__ = ["BASE"]
