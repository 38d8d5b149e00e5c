"""Views: one file per kind, ending with `VIEW = CLASS`."""

from alp_jax.objective.types import View as BASE

__all__ = ["BASE"]
