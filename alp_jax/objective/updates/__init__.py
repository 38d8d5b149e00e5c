"""Updates of the segmenter in a step: one file per kind, ending with `UPDATES = CLASS`."""

from alp_jax.objective.phases import Updates as BASE

__all__ = ["BASE"]
