"""Training: builds everything from a configuration, then loops; resumes by itself."""

import contextlib
import ctypes
import dataclasses
import functools
import logging
import math
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np

from alp_jax import (
    checkpoint,
    config,
    evaluate,
    models,
    optim,
    profiling,
    progress,
    state,
    steps,
    writers,
)
from alp_jax.data import pipeline
from alp_jax.data.labels import LABEL_SETS
from alp_jax.errors import UserError

logger = logging.getLogger(__name__)

Scalars = dict[str, jax.Array]
# Roles of the keys made from the run's seed.
_INIT, _STEPS = 0, 1


def train_and_evaluate(
    run_config: ml_collections.ConfigDict,
    workdir: str | os.PathLike[str],
    *,
    bar: progress.PartProgress | None = None,
    profile_steps: int = 0,
) -> dict[str, Any]:
    """Trains until `num_steps`, from the workdir's latest checkpoint if there is one.

    Args:
      run_config: a whole configuration (configs/default.py).
      workdir: where everything is written (README.md, "The workdir").
      bar: a share of a display over many runs; None shows this run by itself.
      profile_steps: to record for TensorBoard's profiler (`alp_jax.profiling`).
    Returns:
      the scores of the last step's evaluation.
    Raises:
      UserError: for a wrong configuration, missing data, a workdir of another run, a checkpoint of
        another network, or a loss that is not finite.
    """
    workdir = pathlib.Path(workdir).expanduser()
    config.validate(run_config)
    if (workdir / config.FILE_NAME).exists():
        config.check_same_run(run_config, config.load(workdir), workdir)
    objective = run_config.objective
    label_set = LABEL_SETS[run_config.data.num_classes]
    batches = pipeline.create_train_batches(
        run_config.data,
        seed=run_config.seed,
        label_set=label_set,
        use_target=objective.use_target,
    )
    rng = jax.random.key(run_config.seed)
    statics = create_statics(run_config)
    segmenter = statics["segmenter"]
    evaluator = evaluate.Evaluator(run_config, segmenter, label_set)
    train_state = create_train_state(statics, jax.random.fold_in(rng, _INIT))
    _describe(train_state)
    if run_config.init_from and not checkpoint.has_checkpoints(workdir):
        train_state = init_from(run_config, train_state)
    config.save(run_config, workdir)

    with checkpoint.Checkpoints(workdir, keep_last=run_config.checkpoint.keep_last) as checkpoints:
        latest_step = checkpoints.latest_step()
        if latest_step == 0:  # Training saves none; data_prep.convert_weights does.
            raise UserError(
                f"The workdir {workdir} holds converted weights, not a run: give them as "
                f"--config.init_from={workdir}, and another --workdir."
            )
        start_step = latest_step or 0
        if start_step:
            train_state = checkpoints.restore(start_step, like=train_state)
            logger.info("Resuming %s from step %d.", workdir, start_step)
        if start_step < run_config.num_steps:
            logger.info(
                "Training to step %d; checkpoints, metrics.jsonl and pictures go to %s. To watch: "
                "tensorboard --logdir=%s",
                run_config.num_steps,
                workdir,
                workdir,
            )
            train_fn = compile_train_step(
                statics, train_state, batches[start_step], jax.random.fold_in(rng, _STEPS)
            )
            train_fn = profiling.record(
                train_fn,
                workdir,
                num_steps=profile_steps,
                steps_left=run_config.num_steps - start_step,
            )
            with writers.MetricsWriter(workdir, from_step=start_step) as writer:
                writer.write_run(run_config)
                shown = bar or progress.TrainProgress(start_step, run_config.num_steps)
                loop = _Loop(run_config, workdir, evaluator, checkpoints, writer, shown)
                train_state = loop.run(train_fn, train_state, batches, start_step)
        last_step = int(train_state.step)
        summary = evaluate.read_summary(workdir, last_step, run_config.evaluation)
        if summary is None:
            segmenter_state = train_state.segmenter
            result = evaluator.evaluate(
                segmenter_state.params, segmenter_state.model_state, step=last_step
            )
            result.save(workdir)
            summary = result.summary
    return summary


def create_train_state(statics: dict[str, Any], rng: jax.Array) -> state.TrainState:
    """Creates the state at step 0, compiled as one program: a hundred small ones take longer."""
    players = {name: value for name, value in statics.items() if name != "objective"}
    create = functools.partial(
        state.create_train_state, has_discriminator=statics["objective"].aligns, **players
    )
    return jax.jit(create)(rng)


def _describe(train_state: state.TrainState) -> None:
    def count(params: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    discriminator = train_state.discriminator
    logger.info(
        "Segmenter: %s parameters. Discriminator: %s.",
        f"{count(train_state.segmenter.params):,}",
        "none, nothing is aligned" if discriminator is None else f"{count(discriminator.params):,}",
    )


def create_statics(run_config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Creates the keyword arguments of `steps.train_step` that do not change during a run."""
    num_classes = run_config.data.num_classes
    return {
        "segmenter": models.create_segmenter(run_config.model, num_classes),
        "discriminator": models.create_discriminator(run_config.discriminator, num_classes),
        "segmenter_optimizer": optim.create_segmenter_optimizer(
            run_config.optimizer,
            train_batch_norm_affine=run_config.model.batch_norm_train_affine,
        ),
        "discriminator_optimizer": optim.create_discriminator_optimizer(run_config.optimizer),
        "objective": config.create_objective(run_config.objective),
    }


def compile_train_step(
    statics: dict[str, Any],
    train_state: state.TrainState,
    batch: dict[str, np.ndarray],
    rng: jax.Array,
) -> Callable[[state.TrainState, dict[str, np.ndarray]], tuple[state.TrainState, Scalars]]:
    """Compiles the train step once, ahead of time; the state is donated.

    Another shape than that of `batch` is then an error, not a second compilation.
    """
    logger.info("Compiling the train step: seconds for a small network, minutes for a full one.")
    start = time.monotonic()
    train_step = functools.partial(steps.train_step, **statics)
    compiled = jax.jit(train_step, donate_argnums=0).lower(train_state, batch, rng).compile()
    _return_freed_memory()
    logger.info("Compiled the train step in %.1f s.", time.monotonic() - start)
    return lambda entry, data: compiled(entry, data, rng)


def _return_freed_memory() -> None:
    """Gives the system back what compiling took, with glibc, which would keep a gigabyte and more.

    Other C libraries do so themselves, or have no such call.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def init_from(
    run_config: ml_collections.ConfigDict, train_state: state.TrainState
) -> state.TrainState:
    """Takes the segmenter's parameters and statistics from the latest checkpoint in `init_from`.

    A classifier that is not there (weights of a backbone) keeps its initial values.

    Raises:
      UserError: if there is no checkpoint, or it is of another network.
    """
    workdir, entry = pathlib.Path(run_config.init_from).expanduser(), train_state.segmenter
    if not workdir.is_dir():
        raise UserError(
            f"config.init_from is {str(workdir)!r}, where no run is: train that one first (for the "
            "built-in cities: --config=configs/toy_cities.py:warmup), convert pretrained weights "
            "there (python -m data_prep.convert_weights --help), or give another."
        )
    saved = config.load(workdir)
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.resolve("latest")
        held = checkpoints.segmenter_parts(step) | {"backbone"}
        config.check_same_network(run_config, saved, workdir, parts=held)
        params, model_state = checkpoints.restore_segmenter(
            step,
            {part: tree for part, tree in entry.params.items() if part in held},
            entry.model_state,
        )
    afresh = ", ".join(sorted(entry.params.keys() - held)) or "nothing"
    logger.info("Starting from step %d of %s; initialised afresh: %s.", step, workdir, afresh)
    params = entry.params | params
    segmenter = dataclasses.replace(entry, params=params, model_state=model_state)
    return dataclasses.replace(train_state, segmenter=segmenter)


class _Loop:
    """The loop over steps, with what it reports to."""

    def __init__(
        self,
        run_config: ml_collections.ConfigDict,
        workdir: pathlib.Path,
        evaluator: evaluate.Evaluator,
        checkpoints: checkpoint.Checkpoints,
        writer: writers.MetricsWriter,
        bar: progress.TrainProgress | progress.PartProgress,
    ):
        self._config = run_config
        self._workdir = workdir
        self._evaluator = evaluator
        self._checkpoints = checkpoints
        self._writer = writer
        self._bar = bar
        domains = 2 if run_config.objective.use_target else 1
        self._images_per_step = domains * run_config.data.batch_size
        self._window: list[Scalars] = []
        self._window_seconds = 0.0

    def run(
        self,
        train_fn: Callable[..., tuple[state.TrainState, Scalars]],
        train_state: state.TrainState,
        batches: Any,
        start_step: int,
    ) -> state.TrainState:
        """Runs the steps from `start_step`; evaluates and saves at intervals and at the end."""
        data, num_steps = self._config.data, self._config.num_steps
        iterator = pipeline.iterate(
            batches,
            start_step,
            num_workers=data.num_workers,
            prefetch_batches=data.prefetch_batches,
        )
        if start_step == 0:
            self._evaluate(0, train_state)  # The start to compare with; finds faults early.
        with self._bar as bar:
            for step in range(start_step + 1, num_steps + 1):
                started = time.monotonic()
                train_state, scalars = train_fn(train_state, next(iterator))
                self._window.append(scalars)
                bar.advance(step)
                evaluates = self._is_due(step, self._config.evaluation.every_steps)
                saves = self._is_due(step, self._config.checkpoint.every_steps)
                logs = self._is_due(step, self._config.log_every_steps)
                if not (evaluates or saves or logs):
                    self._window_seconds += time.monotonic() - started
                    continue
                averages = self._average_window(step, started)
                self._writer.write_scalars(step, averages)
                bar.report(
                    step,
                    averages,
                    (num_steps - step) * self._images_per_step / averages["images_per_second"],
                )
                if evaluates:
                    mean_iou = self._evaluate(step, train_state)
                    self._checkpoints.save(step, train_state, mean_iou=mean_iou)
                elif saves:
                    self._checkpoints.save(step, train_state)
        return train_state

    def _is_due(self, step: int, every_steps: int) -> bool:
        return step % every_steps == 0 or step == self._config.num_steps

    def _average_window(self, step: int, started: float) -> dict[str, float]:
        """Averages the scalars since the last report, and forgets them.

        Raises:
          UserError: if one of them is not finite, before anything of these steps is saved.
        """
        window = jax.device_get(self._window)  # Waits for the device.
        seconds = self._window_seconds + time.monotonic() - started
        averages = {
            name: float(np.mean([scalars[name] for scalars in window])) for name in window[0]
        }
        for name, value in averages.items():
            if not math.isfinite(value):
                raise UserError(
                    f"{name} is {value} between steps {step - len(window) + 1} and {step}: "
                    "expected a finite number; lower the learning rates or the adversarial weight "
                    "(the last checkpoint is whole)."
                )
        self._window, self._window_seconds = [], 0.0
        return {**averages, "images_per_second": len(window) * self._images_per_step / seconds}

    def _evaluate(self, step: int, train_state: state.TrainState) -> float | None:
        """Evaluates, writes the evaluation's files, and returns its mean IoU."""
        segmenter = train_state.segmenter
        result = self._evaluator.evaluate(segmenter.params, segmenter.model_state, step=step)
        result.save(self._workdir)
        self._writer.write_evaluation(step, result.summary, result.paint())
        mean_iou = result.summary["mean_iou"]
        logger.info("step %d  %s", step, result.describe())
        return mean_iou
