"""Trains a run from its configuration, or resumes it from its latest checkpoint."""

import contextlib
import logging
import os
import pathlib
from typing import Any

import jax
import ml_collections

from alp_jax.command import progress, stopping
from alp_jax.data import pipeline
from alp_jax.devices import mesh, processes
from alp_jax.errors import Diverged, UserError, shorten
from alp_jax.objective import state
from alp_jax.objective.objective import Objective
from alp_jax.run import assembly, guards, loop, profiling, replay
from alp_jax.run.parts import Run
from alp_jax.self_training.settings import list_read
from alp_jax.workdir import (
    checkpoint,
    classes,
    config,
    finite,
    locks,
    outputs,
    scores,
    trained_on,
    writers,
)
from alp_jax.workdir.settings import RunSettings, build_settings

logger = logging.getLogger(__name__)

_STEPS = 1  # Role that is folded into the key of the run's seed.


def train_and_evaluate(
    run_config: ml_collections.ConfigDict,
    workdir: str | os.PathLike[str],
    *,
    bar: progress.PartProgress | None = None,
    profile_steps: int = 0,
    accept_changed_data: bool = False,
) -> dict[str, Any]:
    """Trains until `num_steps`, from the workdir's latest checkpoint if there is one.

    Args:
      run_config: a complete configuration (configs/default.py).
      workdir: folder for all files of the run (README.md, "The workdir").
      bar: this run's part of a display over many runs; None shows this run alone.
      profile_steps: steps to record for TensorBoard's profiler (`alp_jax.run.profiling`).
      accept_changed_data: whether to go on if a dataset was prepared anew since the last start.
    Returns:
      the scores of the last step's evaluation.
    Raises:
      UserError: for a wrong configuration, missing data, a workdir of another run, a checkpoint of
        another network, only damaged checkpoints, another process in the workdir, corrupt records,
        no labelled pixel, data that were changed since the last start, or a non-finite loss.
      Stopped: after SIGTERM or SIGINT; the same call continues.
    """
    workdir = pathlib.Path(workdir).expanduser()
    settings = build_settings(run_config)
    with stopping.StopRequest() as stop, _hold(workdir):
        return _train_and_evaluate(
            settings, workdir, bar, profile_steps, stop, accept_changed_data=accept_changed_data
        )


def _hold(workdir: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Locks the workdir in the primary process, on behalf of all processes of the run."""
    if not processes.is_primary():
        return contextlib.nullcontext()
    outputs.check(workdir, config.RUN)
    return locks.hold(workdir)


def _train_and_evaluate(
    settings: RunSettings,
    workdir: pathlib.Path,
    bar: progress.PartProgress | None,
    profile_steps: int,
    stop: stopping.StopRequest,
    *,
    accept_changed_data: bool,
) -> dict[str, Any]:
    processes.from_primary(lambda: config.check_workdir(settings, workdir))
    label_set = classes.load_to_train(workdir, settings.data.label_set)
    settings = assembly.complete_terms(settings, label_set)
    devices = assembly.create_mesh(settings)
    setup = assembly.create_setup(settings, label_set)
    domains = list_read(setup.objective.domains)
    processes.from_primary(
        lambda: trained_on.check(settings, workdir, domains, accept_changes=accept_changed_data)
    )
    with checkpoint.Checkpoints(workdir, keep_last=settings.checkpoint.keep_last) as checkpoints:
        run = Run(settings, workdir, label_set, devices, setup, checkpoints)
        run.open_data()
        train_state, start_step = run.start()
        if start_step > settings.num_steps:
            raise UserError(
                f"The run in {workdir} is at step {start_step}, and config.num_steps is "
                f"{settings.num_steps}: give at least {start_step}, or another --workdir."
            )
        _describe(train_state)
        if start_step < settings.num_steps:
            train_state = _train(run, train_state, start_step, bar, profile_steps, stop)
        else:
            _save_settings(run)
        last_step = int(train_state.step)
        if scores.lacks_summary(workdir, last_step, settings.evaluation):
            segmenter_state = train_state.segmenter
            variables = ((segmenter_state.params, segmenter_state.model_state),)
            result = run.evaluator.evaluate(variables, step=last_step)
            if processes.is_primary():
                result.save(workdir)
    summary = scores.read_summary(workdir, last_step, settings.evaluation)
    return summary or {}


def _train(
    run: Run,
    train_state: state.TrainState,
    start_step: int,
    bar: progress.PartProgress | None,
    profile_steps: int,
    stop: stopping.StopRequest,
) -> state.TrainState:
    """Compiles the train step and runs it to the last step.

    Raises:
      UserError: after a non-finite step, with the replay file left in the workdir.
      Stopped: after a signal.
    """
    settings, workdir, objective = run.settings, run.workdir, run.setup.objective
    logger.info(
        "Training to step %d; checkpoints, metrics.jsonl and pictures go to %s.%s",
        settings.num_steps,
        workdir,
        f" To watch: tensorboard --logdir={workdir}" if settings.tensorboard else "",
    )
    train_fn = assembly.compile_train_step(
        run.setup, train_state, run.example_batch(start_step), _steps_rng(settings), run.devices
    )
    _save_settings(run)  # Only now: a step that does not compile leaves nothing.
    steps_left = settings.num_steps - start_step
    train_fn = profiling.record(train_fn, workdir, num_steps=profile_steps, steps_left=steps_left)
    shown = bar or progress.TrainProgress(
        start_step, settings.num_steps, shown=_scalars_to_show(objective)
    )
    with _create_writer(settings, workdir, start_step) as writer:
        writer.write_run(settings)
        training = loop.TrainLoop(
            settings,
            workdir,
            run.evaluator,
            run.checkpoints,
            writer,
            shown,
            stop,
            objective=objective,
        )
        try:
            return training.run(
                train_fn, run.place, train_state, run.batches, start_step, run.rounds
            )
        except guards.NonFiniteError as error:
            raise _leave_replay(run, error, train_fn) from None


def _save_settings(run: Run) -> None:
    """Writes the configuration, the user's own classes and code, and the data's fingerprints."""

    def save() -> None:
        config.save(run.settings, run.workdir)
        classes.save(run.label_set, run.workdir, run.settings.data.label_set)
        trained_on.save(run.settings, run.workdir, list_read(run.setup.objective.domains))

    processes.from_primary(save)


def _create_writer(
    settings: RunSettings, workdir: pathlib.Path, start_step: int
) -> writers.MetricsWriter | writers.NoWriter:
    if processes.is_primary():
        return writers.MetricsWriter(
            workdir, from_step=start_step, writes_events=settings.tensorboard
        )
    return writers.NoWriter()


def _steps_rng(settings: RunSettings) -> jax.Array:
    return jax.random.fold_in(jax.random.key(settings.seed), _STEPS)


def _leave_replay(run: Run, error: guards.NonFiniteError, train_fn: assembly.TrainFn) -> UserError:
    """Writes the replay file of a non-finite step; returns the error to raise.

    The state before that step was donated, so the steps from the last checkpoint run once more.
    """
    train_state, step = run.start()
    cause = _find_cause(run.settings, error, train_state)
    examples = pipeline.name_examples(run.settings.data, error.notes)
    terms = [f"{name} is {value}" for name, value in error.terms.items()]
    if jax.process_count() > 1:  # Each process holds only a part of the batch.
        look = "run it in one process, which leaves a file to look at that step alone"
    else:
        look = f"look at that step alone with --mode=replay --workdir={run.workdir}"
        try:
            if run.rounds is not None:
                train_state = run.rounds.enter(step, train_state)
            for before in range(step, error.step - 1):
                train_state, _ = train_fn(train_state, run.place(run.batches[before]).batch)
            batch = run.batches[error.step - 1].batch
            found = replay.Replay(train_state, batch, error.step, error.terms, examples)
            replay.write(run.workdir / replay.FILE_NAME, found)
        except UserError as fault:
            look = f"there is no replay file, as writing it failed ({fault})"
    kept = f"the checkpoint of step {step} is kept" if step else "no checkpoint was due before"
    kind = UserError if error.is_of_the_start else Diverged
    return kind(
        f"{shorten(terms, 3)} at step {error.step} ({'; '.join(examples)}): expected "
        f"finite numbers; {cause}, and {look}; {kept}."
    )


def _find_cause(
    settings: RunSettings, error: guards.NonFiniteError, start: state.TrainState
) -> str:
    """Says what to change: a loss of the first step does not depend on any learning rate."""
    if not error.is_of_the_start:
        return "lower the learning rates or the weights of terms"
    name, value = finite.find_largest(start.segmenter.params)
    weights = f"config.init_from {settings.init_from}" if settings.init_from else "random ones"
    return (
        "no update was made before it, so the cause is no learning rate: check the weights at the "
        f"start ({weights}; the largest is {value:.3g}, in {name}) and the images that are named"
    )


def replay_step(workdir: pathlib.Path) -> None:
    """Runs the step of a replay file again, and prints its non-finite arrays and scalars.

    Raises:
      UserError: if the workdir holds no run, or its replay file is missing or damaged.
    """
    settings = config.load(workdir)
    setup = assembly.create_setup(settings, classes.load(workdir, settings.data.label_set))
    like = jax.eval_shape(lambda: assembly.create_train_state(setup, jax.random.key(0)))
    found = replay.read(workdir / replay.FILE_NAME, like=like)
    devices = assembly.create_mesh(settings)
    entry = mesh.copy_everywhere(found.state, devices)
    batch = mesh.place_batch(found.batch, devices, batch_size=settings.data.batch_size)
    train_fn = assembly.compile_train_step(setup, entry, batch, _steps_rng(settings), devices)
    train_state, scalars = train_fn(entry, batch)
    replay.print_outcome(found, train_state, jax.device_get(scalars))


def _scalars_to_show(objective: Objective) -> dict[str, str]:
    """Returns name -> short label of the scalars that terms show in the progress bar."""
    curves = [curve for term in objective.terms for curve in term.curves]
    return {curve.scalars[0]: curve.short for curve in curves if curve.short}


def _describe(train_state: state.TrainState) -> None:
    """Logs the numbers of parameters of the segmenter and of what terms own."""

    def count(params: Any) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    counts = [f"the segmenter has {count(train_state.segmenter.params):,}"]
    if train_state.discriminator is not None:
        counts += [
            f"discriminator {name} has {count(params):,}"
            for name, params in train_state.discriminator.params.items()
        ]
    logger.info("Parameters: %s.", ", ".join(counts))
