"""Terms: one file a kind, which ends with `TERM = CLASS`."""

from alp_jax.objective.types import Term as BASE

__all__ = ["BASE"]
