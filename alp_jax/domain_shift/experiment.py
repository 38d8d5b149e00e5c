"""Trains the domain classifier for every patch size and run, and keeps finished curves.

Synopsis:

  result = experiment.run_experiment(config, output)
  print(result.advice)
"""

import contextlib
import functools
import logging
import math
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from alp_jax.command.progress import TrainProgress
from alp_jax.data import pipeline
from alp_jax.data.labels import LabelSet
from alp_jax.domain_shift import label_maps, report, settings
from alp_jax.errors import UserError
from alp_jax.models.domain_classifier import DomainClassifier, create_domain_classifier
from alp_jax.objective.losses import SOURCE_LABEL, TARGET_LABEL, domain_cross_entropy
from alp_jax.objective.optim import repeated_sgd
from alp_jax.workdir import classes, files

logger = logging.getLogger(__name__)

PyTree = Any
CURVES_FOLDER = "curves"


class ClassifierState(NamedTuple):
    """State of the classifier that a train step updates."""

    params: PyTree
    model_state: PyTree
    opt_state: PyTree


def train_step(
    state: ClassifierState,
    maps: jax.Array,
    *,
    classifier: DomainClassifier,
    optimizer: optax.GradientTransformation,
) -> tuple[ClassifierState, jax.Array]:
    """Updates the classifier once, on one batch of both domains.

    Args:
      state: donated where this is jitted.
      maps: [2B, H, W] uint8 train ids, the source's first.
      classifier, optimizer: static.
    Returns:
      (state, loss): mean cross-entropy of the batch, nats.
    """

    def compute_loss(params: PyTree) -> tuple[jax.Array, PyTree]:
        logits, model_state = classifier.apply(params, state.model_state, maps, train=True)
        source_logits, target_logits = jnp.split(logits, 2)
        source_loss = domain_cross_entropy(source_logits, SOURCE_LABEL)
        target_loss = domain_cross_entropy(target_logits, TARGET_LABEL)
        return (source_loss + target_loss) / 2, model_state

    (loss, model_state), grads = jax.value_and_grad(compute_loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return ClassifierState(params, model_state, opt_state), loss


def run_experiment(config: ml_collections.ConfigDict, output: pathlib.Path) -> report.Report:
    """Trains the unfinished curves, and writes curves, numbers, figure and advice.

    The files are rewritten after every curve, so that an interrupted experiment shows its finished
    curves. The first run of every patch size is trained first, then the second of each.

    Args:
      config: a whole configuration (configs/domain_shift.py).
      output: folder of all files.
    Raises:
      UserError: for a wrong configuration, missing data, a folder of another experiment, or a
        non-finite loss.
    """
    shift = settings.build_settings(config)
    has_curves = any((output / CURVES_FOLDER).glob("*.json"))
    label_set = classes.load_to_train(output, shift.data.label_set, has_results=has_curves)
    domains = label_maps.open_domains(
        shift.data,
        seed=shift.seed,
        num_validation=shift.num_validation,
        label_set=label_set,
    )
    settings.save(shift, output)
    classes.save(label_set, output, shift.data.label_set)
    (output / CURVES_FOLDER).mkdir(exist_ok=True)
    patch_sizes = (None, *sorted(shift.patch_sizes, reverse=True))
    pairs = [(patch_size, run) for run in range(shift.num_runs) for patch_size in patch_sizes]
    curves = {pair: _load(_path(output, *pair)) for pair in pairs}
    finished = {pair: curve for pair, curve in curves.items() if curve is not None}
    if finished:
        logger.info("%d of %d curves are finished already.", len(finished), len(pairs))
    if len(finished) < len(pairs):
        num_steps = shift.num_steps
        with TrainProgress(len(finished) * num_steps, len(pairs) * num_steps) as bar:
            trainer = _Trainer(shift, label_set, domains, bar, len(finished), len(pairs))
            for pair in pairs:
                if pair in finished:
                    continue
                finished[pair] = trainer.train(*pair)
                files.write_text(_path(output, *pair), finished[pair].to_json())
                report.save(report.summarise(shift, list(finished.values())), output)
    result = report.summarise(shift, [finished[pair] for pair in pairs])
    report.save(result, output)
    return result


def _path(output: pathlib.Path, patch_size: int | None, run: int) -> pathlib.Path:
    return output / CURVES_FOLDER / f"patch_{report.patch_name(patch_size)}_run_{run}.json"


def _load(path: pathlib.Path) -> report.Curve | None:
    if not path.exists():
        return None
    try:
        return report.Curve.from_json(path.read_text())
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}): expected the curve that this command "
            "wrote; remove that file, and it is trained again."
        ) from error


class _Trainer:
    """Trains one curve after another with the same compiled programs; all inputs have one size."""

    def __init__(
        self,
        config: settings.ShiftSettings,
        label_set: LabelSet,
        domains: label_maps.Domains,
        bar: TrainProgress,
        num_finished: int,
        num_curves: int,
    ):
        self._config, self._domains, self._bar = config, domains, bar
        self._num_finished, self._num_curves = num_finished, num_curves
        self._size = config.data.size
        classifier = create_domain_classifier(label_set.num_classes, config.widths)
        optimizer = repeated_sgd(
            lambda _: config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            repeats=1,
        )

        def create_state(rng: jax.Array) -> ClassifierState:
            params, model_state = classifier.init(rng)
            return ClassifierState(params, model_state, optimizer.init(params))

        def predict(state: ClassifierState, maps: jax.Array) -> jax.Array:
            return classifier.apply(state.params, state.model_state, maps, train=False)[0]

        statics = {"classifier": classifier, "optimizer": optimizer}
        self._create_state = jax.jit(create_state)
        self._train_step = jax.jit(functools.partial(train_step, **statics), donate_argnums=0)
        self._predict = jax.jit(predict)
        self._wholes = label_maps.read_validation_maps(domains, self._size)
        logger.info(
            "Training on %d source and %d target label maps, validating on %d of each.",
            *(len(part.indices) for part in domains.train),
            config.num_validation,
        )

    def train(self, patch_size: int | None, run: int) -> report.Curve:
        """Trains from scratch; initialisation and order of the maps depend only on the run."""
        config, started = self._config, time.monotonic()
        batches = label_maps.create_train_batches(
            self._domains,
            self._size,
            patch_size,
            batch_size=config.data.batch_size,
            seed=config.seed,
            run=run,
        )
        iterator = pipeline.iterate(
            batches,
            0,
            num_workers=config.data.num_workers,
            prefetch_batches=config.data.prefetch_batches,
        )
        validation_maps = label_maps.crop_validation_maps(
            self._wholes, patch_size, seed=config.seed
        )
        state = self._create_state(jax.random.fold_in(jax.random.key(config.seed), run))
        points: list[report.Point] = []
        losses: list[jax.Array] = []
        window_started, steps_before = time.monotonic(), self._num_finished * config.num_steps
        with contextlib.closing(iterator):  # Ends the reader processes.
            for step in range(1, config.num_steps + 1):
                state, loss = self._train_step(state, next(iterator))
                losses.append(loss)
                self._bar.advance(steps_before + step)
                if step % config.eval_every_steps and step < config.num_steps:
                    continue
                train_loss = self._check_finite(losses, step)
                points.append(self._validate(state, validation_maps, step, train_loss))
                seconds = (time.monotonic() - window_started) / len(losses)
                self._report(steps_before + step, train_loss, seconds)
                losses, window_started = [], time.monotonic()
        self._num_finished += 1
        logger.info(
            "%s, run %d of %d: error %.1f %% after %d steps, %.0f s.",
            report.describe_patch(patch_size),
            run + 1,
            config.num_runs,
            100 * points[-1].validation_error,
            config.num_steps,
            time.monotonic() - started,
        )
        return report.Curve(patch_size, run, time.monotonic() - started, tuple(points))

    def _check_finite(self, losses: list[jax.Array], step: int) -> float:
        mean = float(np.mean(jax.device_get(losses)))
        if not math.isfinite(mean):
            raise UserError(
                f"The classifier's loss is {mean} between steps {step - len(losses) + 1} and "
                f"{step}: expected a finite number; lower --config.learning_rate."
            )
        return mean

    def _validate(
        self, state: ClassifierState, maps: np.ndarray, step: int, train_loss: float
    ) -> report.Point:
        """Computes the errors on the maps; the first half is the source's."""
        batch_size = self._config.eval_batch_size
        logits = []
        for start in range(0, len(maps), batch_size):
            batch = maps[start : start + batch_size]
            padding = [(0, batch_size - len(batch)), (0, 0), (0, 0)]  # One compiled size.
            logits.append(np.asarray(self._predict(state, np.pad(batch, padding)))[: len(batch)])
        says_target = np.concatenate(logits) > 0
        source, target = np.split(says_target, 2)
        source_error, target_error = float(np.mean(source)), float(np.mean(~target))
        return report.Point(
            step, (source_error + target_error) / 2, source_error, target_error, train_loss
        )

    def _report(self, step: int, train_loss: float, seconds_per_step: float) -> None:
        maps_per_step = 2 * self._config.data.batch_size
        scalars = {
            "loss/cross_entropy": train_loss,
            "images_per_second": maps_per_step / seconds_per_step,
        }
        steps_left = self._num_curves * self._config.num_steps - step
        self._bar.report(step, scalars, steps_left * seconds_per_step)
