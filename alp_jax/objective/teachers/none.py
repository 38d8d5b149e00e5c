"""No teacher."""

import dataclasses
from typing import Any, ClassVar

from alp_jax.objective.teacher import Teacher

PyTree = Any


@dataclasses.dataclass(frozen=True)
class NoTeacher(Teacher):
    """Keeps no second set of weights."""

    is_present: ClassVar[bool] = False

    def create(self, params: PyTree, model_state: PyTree, num_classes: int) -> None:
        """Creates no state."""
        del params, model_state, num_classes


TEACHER = NoTeacher
