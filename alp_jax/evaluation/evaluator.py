"""Evaluates a whole split: scores, confusion matrix and a sheet of pictures.

Synopsis:

  evaluator = Evaluator(settings, predictor, label_set)
  result = evaluator.evaluate(((params, model_state),), step=500)
  result.save(workdir)     # evaluation/step_500.json, step_500_confusion.npy, step_500.png
"""

import dataclasses
import functools
import logging
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np
from PIL import Image

from alp_jax.data import pipeline
from alp_jax.data.labels import IGNORE_LABEL, LabelSet
from alp_jax.devices import mesh, processes
from alp_jax.errors import UserError
from alp_jax.evaluation import figures, label_free, metrics, results
from alp_jax.evaluation.ensemble import load_ensemble
from alp_jax.evaluation.eval_step import eval_step
from alp_jax.evaluation.logits import check_finite
from alp_jax.evaluation.predictor import Predictor, Recipe, Variables
from alp_jax.workdir import classes, config, files, outputs, trained_on
from alp_jax.workdir.scores import EvaluationSettings
from alp_jax.workdir.settings import RunSettings, build_settings

logger = logging.getLogger(__name__)

PyTree = Any
PREDICTIONS = outputs.Kind("predictions of a split", flag="predictions")


class Evaluator:
    """Evaluates checkpoints of one network on one split; opens the data and compiles once."""

    def __init__(
        self,
        settings: RunSettings,
        predictor: Predictor,
        label_set: LabelSet,
        devices: jax.sharding.Mesh | None = None,
        *,
        suffix: str = "",
    ):
        """Opens the data.

        Args:
          settings: of the run.
          predictor: how images are predicted.
          label_set: the classes.
          devices: over which images and their rows are spread; None: as `config.mesh` says.
          suffix: end of the names of the files, for a split that is not the run's own.
        Raises:
          UserError: if the dataset is missing or not what it should be.
        """
        self._config = settings.evaluation
        self._prefetch_batches = settings.data.prefetch_batches
        self._label_set = label_set
        self._suffix = suffix
        self._announced = False  # Whether the log says that compiling takes a while.
        self._devices = devices or _create_mesh(settings)
        # Padded to images for all devices.
        self._batch_size = _round_up(settings.evaluation.batch_size, self._devices.shape[mesh.DATA])
        self._batches, self._num_images = pipeline.create_eval_batches(
            settings.data,
            dataset=settings.evaluation.dataset,
            split=settings.evaluation.split,
            batch_size=self._batch_size,
            label_set=label_set,
        )
        self._step_fn = jax.jit(
            functools.partial(eval_step, predictor=predictor, num_classes=label_set.num_classes),
            out_shardings=mesh.replicate(self._devices),
        )

    def evaluate(
        self,
        variables: Variables,
        *,
        step: int,
        predictions_dir: pathlib.Path | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> results.Evaluation:
        """Evaluates every image of the split once.

        Args:
          variables: of the predictor: (params, model_state) of each member.
          step: that they are of.
          predictions_dir: where to write every prediction (`save_prediction`), or None.
          notes: added to the summary.
        """
        if not self._announced:
            self._announced = True
            logger.info(
                "Compiling the evaluation: seconds for a small network, minutes for a full one."
            )
        weights = mesh.copy_everywhere(tuple(variables), self._devices)
        totals = _Totals(self._label_set)
        panels: list[figures.Panel] = []
        chosen = self._choose_panels()
        for batch in pipeline.iterate(
            self._batches, 0, num_workers=0, prefetch_batches=self._prefetch_batches
        ):
            outputs = self._step_fn(weights, **self._place(batch))
            _check_labels(outputs, batch["names"], self._label_set)
            first, count = totals.num_images, int(outputs["num_images"])
            totals.add(outputs)
            if not totals.are_finite:
                check_finite(batch["names"], np.asarray(outputs["entropy"]), step=step)
            if predictions_dir is not None:
                predictions = np.asarray(outputs["predictions"])[:count]
                for name, prediction in zip(batch["names"], predictions, strict=False):
                    save_prediction(predictions_dir, name, prediction, self._label_set)
            panels += [make_panel(batch, outputs, i) for i in range(count) if first + i in chosen]
        assert totals.num_images == self._num_images, (totals.num_images, self._num_images)
        summary = {
            "step": step,
            "dataset": self._config.dataset,
            "split": self._config.split,
            **totals.summarise(),
            **(notes or {}),
        }
        stem = f"step_{step}{self._suffix}"
        return results.Evaluation(summary, totals.confusion, panels, self._label_set, stem)

    def _choose_panels(self) -> set[int]:
        """Chooses the images to show, evenly spread over the split."""
        count = min(self._config.num_sheet_images, self._num_images)
        return set(np.linspace(0, self._num_images - 1, count).round().astype(int).tolist())

    def _place(self, batch: pipeline.Example) -> dict[str, jax.Array]:
        """Puts a batch, which every process reads whole, on the devices."""
        local = list(mesh.local_images(self._devices, self._batch_size))
        place = functools.partial(mesh.place_batch, mesh=self._devices, batch_size=self._batch_size)
        spread = place({name: batch[name][local] for name in ("images", "mask")})
        return spread | place({"labels": batch["labels"][local]}, spread_rows=False)


class _Totals:
    """Sums the outputs of `eval_step` over the batches of a split."""

    def __init__(self, label_set: LabelSet):
        self._label_set = label_set
        self.num_images = 0
        self.confusion = np.zeros((label_set.num_classes,) * 2, np.int64)
        self._entropy, self._density = 0.0, 0.0
        self._probs = np.zeros(label_set.num_classes)

    def add(self, outputs: Mapping[str, jax.Array]) -> None:
        """Adds the outputs of one batch."""
        self.num_images += int(outputs["num_images"])
        self.confusion += np.asarray(outputs["confusion"], np.int64)
        self._entropy += float(outputs["entropy_total"])
        self._density += float(outputs["density_total"])
        self._probs += np.asarray(outputs["probs_total"])

    @property
    def are_finite(self) -> bool:
        """Whether all logits were finite: the mean entropy is NaN otherwise."""
        return math.isfinite(self._entropy)

    def summarise(self) -> dict[str, Any]:
        """Returns the number of images, the scores, and the label-free criteria."""
        mean_entropy = self._entropy / self.num_images
        return {
            "num_images": self.num_images,
            **metrics.summarise(self.confusion, self._label_set),
            "mean_entropy": mean_entropy,
            "soft_neighbourhood_density": self._density / self.num_images,
            "information_maximisation": label_free.information_maximisation(
                self._probs / self.num_images, mean_entropy
            ),
        }


def _check_labels(
    outputs: Mapping[str, jax.Array], names: Sequence[str], label_set: LabelSet
) -> None:
    """Checks that every label of a batch is a class or ignored.

    Raises:
      UserError: names the images of the batch.
    """
    if outputs["num_unknown_labels"]:
        raise UserError(
            f"{outputs['num_unknown_labels']} pixels of {', '.join(names)} have labels of no "
            f"class: expected 0 to {label_set.num_classes - 1}, or {IGNORE_LABEL} to ignore; "
            "prepare the dataset again."
        )


def _create_mesh(settings: RunSettings) -> jax.sharding.Mesh:
    batch_size = _round_up(settings.evaluation.batch_size, settings.mesh.data or 1)
    return mesh.create_mesh(
        settings.mesh, batch_size=batch_size, heights=[settings.data.target_size[0]]
    )


def _round_up(count: int, divisor: int) -> int:
    return -(-count // divisor) * divisor


def evaluate_checkpoint(
    workdir: str | os.PathLike[str],
    run_config: ml_collections.ConfigDict | None = None,
    *,
    checkpoint_name: str = "latest",
    split: str | None = None,
    predictions_dir: pathlib.Path | None = None,
    recipe: Recipe | None = None,
    others: Sequence[str] = (),
    weights: Sequence[float] = (),
) -> results.Evaluation:
    """Evaluates a checkpoint of a finished or running run.

    Args:
      workdir: of the run.
      run_config: must agree with the run's own configuration in the fields that evaluation reads;
        None takes that one.
      checkpoint_name: "latest", "best" or the number of a step.
      split: to evaluate; None takes that of the configuration. Another dataset or split than the
        run's own gives its name to the files.
      predictions_dir: where to write every prediction, or None; a folder that is new or empty, or
        that holds predictions of a split.
      recipe: passes that are averaged; None is a single one, whose scores training reports.
      others, weights: further members of an ensemble (`load_segmenter`). An averaged prediction
        gives its name to the files, and is described in them.
    Raises:
      UserError: if there is no such run or checkpoint, or the configuration is another run's.
    """
    workdir = pathlib.Path(workdir).expanduser()
    saved = config.load(workdir)
    settings = saved if run_config is None else build_settings(run_config)
    config.check_same_evaluation(settings, saved, workdir)
    if split:
        evaluated = dataclasses.replace(settings.evaluation, split=split)
        settings = dataclasses.replace(settings, evaluation=evaluated)
    label_set = classes.load(workdir, settings.data.label_set)
    trained_on.warn_if_changed(
        workdir, settings.data.data_dir, settings.evaluation.dataset, settings.evaluation.split
    )
    ensemble = load_ensemble(
        workdir,
        checkpoint_name,
        recipe=recipe or Recipe(),
        others=others,
        weights=weights,
        settings=settings,
    )
    suffix = _suffix(settings.evaluation, saved.evaluation) + ensemble.suffix()
    evaluator = Evaluator(settings, ensemble.predictor, label_set, suffix=suffix)
    if predictions_dir is not None:
        folder = predictions_dir
        processes.from_primary(lambda: outputs.claim(folder, PREDICTIONS))
    return evaluator.evaluate(
        ensemble.variables,
        step=ensemble.members[0].step,
        predictions_dir=predictions_dir,
        notes=ensemble.describe(),
    )


def make_panel(batch: dict[str, Any], outputs: dict[str, jax.Array], i: int) -> figures.Panel:
    """Shows image i of a batch, everything at the resolution that the network saw."""
    image = batch["images"][i]
    size = (image.shape[0], image.shape[1])

    def shrink(array: Any) -> np.ndarray:
        return pipeline.resize(np.asarray(array), size, Image.Resampling.NEAREST)

    return figures.Panel(
        name=batch["names"][i],
        image=image,
        prediction=shrink(outputs["predictions"][i]),
        label=shrink(batch["labels"][i]),
        entropy=shrink(outputs["entropy"][i]),
    )


def save_prediction(
    folder: pathlib.Path, name: str, prediction: np.ndarray, label_set: LabelSet
) -> None:
    """Writes NAME.png with label ids, 8-bit grey; the label set adds a suffix to the name.

    A set with a `prediction_suffix` appends it to NAME, as its benchmark asks.

    Args:
      folder: created if need be.
      name: of the image; may hold folders.
      prediction: [H, W] uint8 train ids.
      label_set: the classes.
    Raises:
      UserError: if it cannot be written, or the name leaves the folder.
    """
    path = folder / f"{name}{label_set.prediction_suffix}.png"
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"The image name {name!r} leads out of {folder}: prepare the data again.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_png(path, label_set.to_label_ids[prediction])
    except OSError as error:
        raise UserError(
            f"Cannot write {path} ({error.strerror or error}): give a --predictions folder that "
            "you may write to."
        ) from error


def _suffix(evaluated: EvaluationSettings, own: EvaluationSettings) -> str:
    """Returns the file-name suffix for a dataset or split other than the run's own."""
    if evaluated.dataset != own.dataset:
        return f"_{evaluated.dataset.replace('/', '_')}_{evaluated.split}"
    return "" if evaluated.split == own.split else f"_{evaluated.split}"
