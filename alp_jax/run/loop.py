"""Runs the train steps of a run, with logging, checkpoints, evaluations and warnings."""

import contextlib
import logging
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from alp_jax.command import progress
from alp_jax.command.stopping import StopRequest
from alp_jax.data import pipeline
from alp_jax.data.samples import Batch, Loaded, Notes
from alp_jax.devices import processes
from alp_jax.errors import Stopped, UserError
from alp_jax.evaluation.evaluator import Evaluator
from alp_jax.objective import state
from alp_jax.objective.objective import Objective
from alp_jax.run import feeding, guards
from alp_jax.run.rounds import Rounds
from alp_jax.workdir import checkpoint, scores, writers
from alp_jax.workdir.settings import RunSettings
from alp_jax.workdir.skipped import SkippedRecords

logger = logging.getLogger(__name__)

Scalars = dict[str, jax.Array]


class TrainLoop:
    """Runs train steps, and logs, saves and evaluates at intervals."""

    def __init__(
        self,
        settings: RunSettings,
        workdir: pathlib.Path,
        evaluator: Evaluator,
        checkpoints: checkpoint.Checkpoints,
        writer: writers.MetricsWriter | writers.NoWriter,
        bar: progress.TrainProgress | progress.PartProgress,
        stop: StopRequest,
        *,
        objective: Objective,
    ):
        self._config = settings
        self._workdir = workdir
        self._evaluator = evaluator
        self._checkpoints = checkpoints
        self._writer = writer
        self._bar = bar
        self._stop = stop
        self._images_per_step = len(objective.domains) * settings.data.batch_size
        self._window: list[Scalars] = []
        self._window_notes: list[dict[str, Notes]] = []
        self._window_seconds = self._window_waited = 0.0
        self._watches = [watch for term in objective.terms if (watch := term.watch()) is not None]
        self._skipped = SkippedRecords(workdir, settings.data, process=jax.process_index())
        self._agreed_to_stop = False

    def run(
        self,
        train_fn: Callable[..., tuple[state.TrainState, Scalars]],
        place: Callable[[Loaded], Loaded],
        train_state: state.TrainState,
        batches: Any,
        start_step: int,
        rounds: Rounds | None = None,
    ) -> state.TrainState:
        """Runs the steps from `start_step`; saves and evaluates at intervals and at the end.

        A state is saved before it is evaluated, so that nothing is lost if the evaluation fails or
        is stopped. If an evaluation is due at `start_step` and its scores are missing, it runs
        first.

        Args:
          train_fn: takes a step.
          place: places a batch on the devices.
          train_state: the state after `start_step` updates.
          batches: batches of all steps; of rounds, those of each are opened when it begins.
          start_step: number of updates before.
          rounds: rounds of self-training; each begins once the last state is saved, and no batch
            is read before.
        Raises:
          NonFiniteError: after a non-finite scalar; that step is not saved.
          Stopped: after a signal; the last step is saved.
          UserError: if the last state could not be saved, or too many records are corrupt.
        """
        data = self._config.data
        self._labels = guards.LabelGuard(starts_at_0=start_step == 0)
        step = start_step
        with self._stop.deferred(), self._bar:
            if self._lacks_evaluation(start_step):  # At step 0 this finds faults early.
                with self._stop.at_once():
                    self._evaluate(start_step, train_state)
            while step < self._config.num_steps and not self._is_stopped:
                stop_step = self._config.num_steps
                if rounds is not None:
                    self._checkpoints.ensure_saved(step)
                    with self._stop.at_once():
                        train_state = rounds.enter(step, train_state)
                    batches, stop_step = rounds.open(step), rounds.find_stop(step)
                iterator = pipeline.iterate(
                    batches,
                    step,
                    num_workers=data.num_workers,
                    prefetch_batches=data.prefetch_batches,
                    stop_step=None if rounds is None else stop_step,
                )
                with (
                    contextlib.closing(iterator),  # Ends the reader processes.
                    feeding.DeviceFeed(iterator, place) as feed,
                ):
                    train_state, step = self._run_steps(
                        train_fn, feed, train_state, step, stop_step
                    )
                if step < stop_step:  # After a signal.
                    break
        self._checkpoints.ensure_saved(step)
        if step < self._config.num_steps:
            signal = self._stop.signal
            name = "a signal to another process" if signal is None else signal.name
            raise Stopped(
                f"Stopped by {name} at step {step} of {self._config.num_steps}, which is "
                "saved; the same command continues."
            )
        return train_state

    def _run_steps(
        self,
        train_fn: Callable[..., tuple[state.TrainState, Scalars]],
        feed: feeding.DeviceFeed,
        train_state: state.TrainState,
        start_step: int,
        stop_step: int,
    ) -> tuple[state.TrainState, int]:
        """Runs steps until `stop_step` or a signal; saves the last.

        Returns:
          (state, number of its step).
        """
        config = self._config
        step = saved_step = start_step
        scalars: Scalars = {}
        while step < stop_step and not self._is_stopped:
            started = time.monotonic()
            batch = self._take(feed, scalars)
            if batch is None:
                break
            step += 1
            train_state, scalars = train_fn(train_state, batch)
            self._window.append(scalars)
            self._bar.advance(step)
            evaluates = self._is_due(step, config.evaluation.every_steps)
            saves = (
                evaluates or step == stop_step or self._is_due(step, config.checkpoint.every_steps)
            )
            if not (saves or self._is_due(step, config.log_every_steps)):
                self._window_seconds += time.monotonic() - started
                continue
            self._report(step, started)
            self._agree_to_stop()
            if saves:
                self._checkpoints.save(step, train_state)
                saved_step = step
            if evaluates:
                with self._stop.at_once():
                    self._evaluate(step, train_state)
        if self._window:
            self._report(step, time.monotonic())
        if saved_step < step:
            self._checkpoints.save(step, train_state)
        return train_state, step

    @property
    def _is_stopped(self) -> bool:
        """Whether the loop ends now, after a signal; all processes must end at the same step."""
        if jax.process_count() == 1:
            return self._stop.signal is not None
        return self._agreed_to_stop

    def _agree_to_stop(self) -> None:
        self._agreed_to_stop = processes.any_process(self._stop.signal is not None)

    def _is_due(self, step: int, every_steps: int) -> bool:
        return step % every_steps == 0 or step == self._config.num_steps

    def _lacks_evaluation(self, step: int) -> bool:
        evaluated = self._config.evaluation
        is_due = self._is_due(step, evaluated.every_steps)
        return is_due and scores.lacks_summary(self._workdir, step, evaluated)

    def _take(self, feed: feeding.DeviceFeed, scalars: Scalars) -> Batch | None:
        """Takes the next batch; returns None if a signal ended the reader processes."""
        try:
            loaded, waited = feed.next_batch(after=scalars)
        except Exception:
            if self._stop.signal is not None:  # A terminal sends Ctrl-C to readers, too.
                return None
            raise
        self._window_waited += waited
        self._window_notes.append(loaded.notes)
        self._skipped.update(loaded.notes)
        self._labels.add(loaded.notes)
        return loaded.batch

    def _report(self, step: int, started: float) -> None:
        """Averages the scalars since the last report, writes the averages, and starts a new window.

        Raises:
          NonFiniteError: if a scalar is non-finite; no step of the window is saved then.
          UserError: if no batch has a labelled pixel; likewise.
        """
        window = jax.device_get(self._window)  # Waits for the device.
        seconds = self._window_seconds + time.monotonic() - started
        guards.check_finite(window, self._window_notes, step - len(window) + 1)
        self._labels.check(is_last=step == self._config.num_steps)
        averages = {
            name: float(np.mean([scalars[name] for scalars in window])) for name in window[0]
        }
        for watch in self._watches:
            if (warning := watch.update(step, averages)) is not None:
                logger.warning("%s", warning)
        averages["images_per_second"] = len(window) * self._images_per_step / seconds
        averages["input_wait_fraction"] = self._window_waited / seconds
        self._window, self._window_notes = [], []
        self._window_seconds = self._window_waited = 0.0
        self._writer.write_scalars(step, averages)
        seconds_left = (
            (self._config.num_steps - step) * self._images_per_step / averages["images_per_second"]
        )
        self._bar.report(step, averages, seconds_left)

    def _evaluate(self, step: int, train_state: state.TrainState) -> None:
        """Evaluates a state and writes the evaluation's files."""
        segmenter = train_state.segmenter
        variables = ((segmenter.params, segmenter.model_state),)
        result = self._evaluator.evaluate(variables, step=step)
        if not processes.is_primary():
            return
        try:
            result.save(self._workdir)
        except UserError as error:
            logger.warning("%s The run goes on.", error)
        self._writer.write_evaluation(step, result.summary, result.paint)
        logger.info("step %d  %s", step, result.in_one_line())
