"""Defines teachers: a second set of weights of the network, which makes labels for a view.

A view with `uses_teacher` gets a `Taught` network in `make(batch, key, teacher=...)`.
"""

import abc
import dataclasses
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from alp_jax.models.segmenter import Segmenter
from alp_jax.objective import patches

PyTree = Any


@flax.struct.dataclass
class TeacherState:
    """The weights of a teacher, and the thresholds of its confidence.

    Attributes:
      params, model_state: as the segmenter's.
      thresholds: [K] float32, confidence from which on a class is a label.
    """

    params: PyTree
    model_state: PyTree
    thresholds: jax.Array


@dataclasses.dataclass(frozen=True)
class Teacher(abc.ABC):
    """Where the weights of a teacher come from.

    Attributes:
      is_present: whether there is a teacher at all.
      needs_rounds: whether it learns at the beginning of a round of self-training alone.
      label_temperature: weight of the negative entropy in its soft labels; 0: its labels are hard.
    """

    is_present: ClassVar[bool] = True
    needs_rounds: ClassVar[bool] = False
    label_temperature: ClassVar[float] = 0.0

    @abc.abstractmethod
    def create(self, params: PyTree, model_state: PyTree, num_classes: int) -> TeacherState | None:
        """Creates the state at step 0; its arrays are not those of the segmenter."""

    def begin_round(
        self,
        teacher: TeacherState | None,
        params: PyTree,
        model_state: PyTree,
        thresholds: jax.Array,
    ) -> TeacherState | None:
        """Returns the state for a round of self-training, before its first step.

        Args:
          teacher: the state before.
          params, model_state: of the segmenter; the result must hold copies.
          thresholds: [K] of the round's pseudo-labels.
        """
        del params, model_state, thresholds
        return teacher

    def update(
        self, teacher: TeacherState | None, params: PyTree, model_state: PyTree, step: jax.Array
    ) -> TeacherState | None:
        """Returns the state after a step.

        Args:
          teacher: the state before.
          params, model_state: of the segmenter after the step.
          step: number of updates before the step.
        """
        del params, model_state, step
        return teacher


class Taught:
    """The network with a teacher's weights; what it predicts is constant for the gradient.

    Attributes:
      thresholds: [K] float32, as in TeacherState.
      temperature: `Teacher.label_temperature`.
    """

    def __init__(self, segmenter: Segmenter, state: TeacherState, temperature: float):
        self._segmenter, self._state = segmenter, state
        self.thresholds, self.temperature = state.thresholds, temperature

    def predict(self, images: jax.Array) -> jax.Array:
        """Computes logits [B, H, W, K] of images [B, H, W, 3] in evaluation mode."""
        state = self._state
        outputs, _ = self._segmenter.apply(state.params, state.model_state, images, train=False)
        logits = self._segmenter.predict(outputs)
        height, width = images.shape[1:3]
        return jax.lax.stop_gradient(patches.upsample(logits, (height, width)))


def copy_tree(tree: PyTree) -> PyTree:
    """Copies all arrays, so that a step may take over the memory of both."""
    return jax.tree.map(jnp.copy, tree)
