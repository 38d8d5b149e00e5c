"""Terms: one file per kind, ending with `TERM = CLASS`."""

from alp_jax.objective.types import Term as BASE

__all__ = ["BASE"]
