"""Divides a run into rounds of self-training: each makes pseudo-labels, then trains on them.

Synopsis:

  rounds = Rounds(settings, workdir, label_set, setup, devices, restore)
  train_state = rounds.enter(step, train_state)      # makes the labels of the step's round
  batches = rounds[step]                             # of the step's round
  stop_step = rounds.find_stop(step)

Round r has the steps from r * steps_per_round on. Its labels are predicted by the state after that
many updates, which is saved before; so a run that is stopped anywhere continues with the same bits.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from alp_jax.data import pipeline
from alp_jax.data.labels import LabelSet
from alp_jax.devices import mesh
from alp_jax.errors import UserError
from alp_jax.objective.objective import Setup
from alp_jax.objective.state import TrainState
from alp_jax.run.labelling import Labeller
from alp_jax.self_training.examples import BlankExamples, RoundExamples, RoundPlan
from alp_jax.self_training.settings import SELF_TRAINING
from alp_jax.workdir import rounds
from alp_jax.workdir.settings import RunSettings

# Returns the state after a number of updates, or None if it is not kept.
Restore = Callable[[int], TrainState | None]


class Rounds:
    """The rounds of a run: their labels and their batches."""

    def __init__(
        self,
        settings: RunSettings,
        workdir: pathlib.Path,
        label_set: LabelSet,
        setup: Setup,
        devices: jax.sharding.Mesh,
        restore: Restore,
    ):
        """Opens the data.

        Raises:
          UserError: if a dataset is missing or unsuitable, or the target has labels.
        """
        self._settings, self._workdir, self._label_set = settings, workdir, label_set
        self._setup, self._devices, self._restore = setup, devices, restore
        self._source = pipeline.open_domain(settings.data, "source", label_set)
        self._target = pipeline.open_domain(settings.data, "target", label_set)
        self._labeller = Labeller(settings, setup.segmenter, label_set, self._target, devices)
        self._batches: dict[int, Any] = {}

    def find_stop(self, step: int) -> int:
        """Returns the step at which the round of a step ends, or the run within it."""
        settings = self._settings.rounds
        end = (settings.find_round(step) + 1) * settings.steps_per_round
        return min(end, self._settings.num_steps)

    def blank_batches(self) -> Any:
        """Creates batches of the right shapes: to compile a step before there are labels."""
        return self._create_batches(BlankExamples(self._settings.rounds))

    def enter(self, step: int, train_state: TrainState) -> TrainState:
        """Makes the labels of the round of a step, unless they are complete.

        Args:
          step: number of updates of the state; at the beginning of a round its network predicts.
          train_state: the state.
        Returns:
          the state to train from.
        Raises:
          UserError: if labels of a round that has begun are gone, and its first state, too.
        """
        number = self._settings.rounds.find_round(step)
        first = number * self._settings.rounds.steps_per_round
        folder = rounds.find_folder(self._workdir, number)
        begins = step == first
        variables = _network(train_state) if begins else None
        if not self._labeller.is_complete(folder, variables):
            at_first = train_state if begins else self._restore(first)
            if at_first is None:
                raise UserError(
                    f"The pseudo-labels of round {number + 1} in {folder} are missing or damaged, "
                    f"and so is the checkpoint of step {first}, which made them: put one of them "
                    "back, or train into another --workdir."
                )
            self._labeller.label(folder, number, _network(at_first), step=first)
        self._batches.pop(number, None)
        return self._teach(train_state, folder) if begins else train_state

    def _teach(self, train_state: TrainState, folder: pathlib.Path) -> TrainState:
        """Lets the teacher learn at the beginning of a round."""
        found = rounds.read(folder)
        assert found is not None
        thresholds = mesh.copy_everywhere(jnp.asarray(found.thresholds, jnp.float32), self._devices)
        teacher = self._setup.teacher.begin_round(
            train_state.teacher, *_network(train_state), thresholds
        )
        return dataclasses.replace(train_state, teacher=teacher)

    def __getitem__(self, step: int) -> Any:
        """Returns the batch of a step whose round's labels are there."""
        return self.open(step)[step]

    def open(self, step: int) -> Any:
        """Returns the batches of the round of a step, by the number of the step in the run."""
        number = self._settings.rounds.find_round(step)
        if number not in self._batches:
            folder = rounds.find_folder(self._workdir, number)
            found = rounds.read(folder)
            if found is None:
                raise UserError(
                    f"The pseudo-labels of round {number + 1} are not in {folder}: start the run "
                    "again, which makes them."
                )
            settings = self._settings
            plan = RoundPlan(
                number, settings.rounds, settings.data, folder, found.mined_classes, self._fill
            )
            examples = RoundExamples(plan, self._source, self._target, seed=settings.seed)
            self._batches[number] = self._create_batches(examples)
        return self._batches[number]

    def _create_batches(self, examples: Any) -> Any:
        data = self._settings.data
        return pipeline.create_train_batches(
            data,
            seed=self._settings.seed,
            label_set=self._label_set,
            domains=self._setup.objective.domains,
            images=mesh.local_images(self._devices, data.batch_size),
            others={SELF_TRAINING: examples},
        )

    @property
    def _fill(self) -> tuple[int, int, int]:
        """The mean colour of the network's input, in red, green and blue."""
        model = self._settings.model
        mean = model.input_mean[::-1] if model.input_order == "bgr" else model.input_mean
        red, green, blue = (round(min(max(level, 0), 255)) for level in mean)
        return red, green, blue


def _network(train_state: TrainState) -> tuple[Any, Any]:
    return train_state.segmenter.params, train_state.segmenter.model_state
