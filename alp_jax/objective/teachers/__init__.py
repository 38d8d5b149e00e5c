"""Teachers: one file per kind, ending with `TEACHER = CLASS`."""

from alp_jax.objective.teacher import Teacher as BASE

__all__ = ["BASE"]
