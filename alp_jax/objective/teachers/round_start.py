"""The network as it was at the beginning of a round: the teacher of LRENT."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from alp_jax.objective.teacher import Teacher, TeacherState, copy_tree
from alp_jax.settings.schema import setting

PyTree = Any


@dataclasses.dataclass(frozen=True)
class RoundStart(Teacher):
    """Copies the network at the beginning of each round, and the thresholds of its labels.

    Zou et al., ICCV 2019, LRENT: the soft labels of a round are those of the network that it
    begins with, by the temperature alpha (yzou2/CRST, `lr-weight-ent`).
    """

    temperature: float = setting(
        0.25,
        "Weight of the labels' negative entropy, alpha: the smaller, the harder the labels.",
        above=0,
    )
    needs_rounds: ClassVar[bool] = True

    @property
    def label_temperature(self) -> float:  # type: ignore[override]
        """The temperature."""
        return self.temperature

    def create(self, params: PyTree, model_state: PyTree, num_classes: int) -> TeacherState:
        """Creates zeros, which the first round replaces."""
        zeros, statistics = jax.tree.map(jnp.zeros_like, (params, model_state))
        return TeacherState(zeros, statistics, jnp.ones(num_classes, jnp.float32))

    def begin_round(
        self,
        teacher: TeacherState | None,
        params: PyTree,
        model_state: PyTree,
        thresholds: jax.Array,
    ) -> TeacherState:
        """Copies the segmenter."""
        del teacher
        return TeacherState(copy_tree(params), copy_tree(model_state), thresholds)


TEACHER = RoundStart
