"""Views: one file a kind, which ends with `VIEW = CLASS`."""

from alp_jax.objective.types import View as BASE

__all__ = ["BASE"]
