"""The parts of a run: its data, its evaluation, its checkpoints, and the state that it starts from.

Synopsis:

  run = Run(settings, workdir, label_set, devices, setup, checkpoints)
  run.open_data()
  train_state, start_step = run.start()
"""

import dataclasses
import functools
import logging
import pathlib
from typing import Any

import jax

from alp_jax.data import pipeline
from alp_jax.data.labels import LabelSet
from alp_jax.data.samples import Batch, Loaded
from alp_jax.devices import mesh, processes
from alp_jax.errors import UserError
from alp_jax.evaluation.evaluator import Evaluator
from alp_jax.evaluation.predictor import Predictor
from alp_jax.objective import state
from alp_jax.objective.objective import Setup
from alp_jax.run import assembly
from alp_jax.run.rounds import Rounds
from alp_jax.workdir import checkpoint
from alp_jax.workdir.settings import RunSettings

logger = logging.getLogger(__name__)

_INIT = 0  # Role that is folded into the key of the run's seed.


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run is made of."""

    settings: RunSettings
    workdir: pathlib.Path
    label_set: LabelSet
    devices: jax.sharding.Mesh
    setup: Setup
    checkpoints: checkpoint.Checkpoints

    @functools.cached_property
    def rounds(self) -> Rounds | None:
        """The rounds of self-training, if the run has any."""
        if not self.settings.rounds.num_rounds:
            return None

        return Rounds(
            self.settings, self.workdir, self.label_set, self.setup, self.devices, self._restore
        )

    @functools.cached_property
    def batches(self) -> Any:
        """The batch of every step."""
        if self.rounds is not None:
            return self.rounds
        return pipeline.create_train_batches(
            self.settings.data,
            seed=self.settings.seed,
            label_set=self.label_set,
            domains=self.setup.objective.domains,
            images=mesh.local_images(self.devices, self.settings.data.batch_size),
        )

    @functools.cached_property
    def evaluator(self) -> Evaluator:
        """The evaluation of the target."""
        predictor = Predictor((self.setup.segmenter,), self.settings.data.target_size)
        return Evaluator(self.settings, predictor, self.label_set, self.devices)

    def open_data(self) -> None:
        """Opens the datasets of training and evaluation, which finds their faults.

        Raises:
          UserError: if one is missing or unsuitable.
        """
        _ = self.batches, self.evaluator

    def example_batch(self, step: int) -> Batch:
        """Returns a placed batch with the shapes of a step's; of a round's, it is blank."""
        batches = self.batches if self.rounds is None else self.rounds.blank_batches()
        return self.place(batches[step]).batch

    def place(self, loaded: Loaded) -> Loaded:
        """Places a batch on the devices; its notes stay on the host."""
        batch_size = self.settings.data.batch_size
        batch = mesh.place_batch(loaded.batch, self.devices, batch_size=batch_size)
        return loaded._replace(batch=batch)

    def start(self) -> tuple[state.TrainState, int]:
        """Returns (state, step) of the last undamaged checkpoint, or of the run's start.

        Raises:
          UserError: if all checkpoints are damaged, or hold no run.
        """
        checkpoints = self.checkpoints
        step = processes.from_primary(checkpoints.latest_whole_step)
        if step is None:
            return self._create_start(), 0
        if step == 0:  # Saved by data_prep.convert_weights; training never saves step 0.
            raise UserError(
                f"The workdir {checkpoints.workdir} holds converted weights, not a run: give them "
                f"as --config.init_from={checkpoints.workdir}, and another --workdir."
            )
        logger.info("Resuming %s from step %d.", checkpoints.workdir, step)
        return checkpoints.restore(step, like=self._create_entry()), step

    def _restore(self, step: int) -> state.TrainState | None:
        """Returns the state after a number of updates; None if its checkpoint is not kept."""
        if step == 0:
            return self._create_start()
        if step not in self.checkpoints.steps():
            return None
        return self.checkpoints.restore(step, like=self._create_entry())

    def _create_entry(self) -> state.TrainState:
        """Creates the state with random values."""
        rng = jax.random.fold_in(jax.random.key(self.settings.seed), _INIT)
        return assembly.create_train_state(self.setup, rng, self.devices)

    def _create_start(self) -> state.TrainState:
        """Creates the state at step 0."""
        entry = self._create_entry()
        if self.settings.init_from:
            return assembly.init_from(self.settings, entry)
        if self.settings.init_terms == "same":
            logger.warning(
                "config.init_terms is 'same', which has no effect, as config.init_from is empty: "
                "the terms start from random values."
            )
        return entry
