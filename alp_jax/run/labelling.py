"""Makes the pseudo-labels of a round, in two passes over the images of the target.

Synopsis:

  labeller = Labeller(settings, segmenter, label_set, target, devices)
  found = labeller.label(folder, 0, (params, model_state), step=0)

The first pass counts confidences and finds thresholds, the second predicts again and labels: so no
more than a batch of probabilities is held, and none is stored. A call that was cut short is
continued by the same call; the second pass goes on at the first batch whose labels are not there.
"""

import functools
import logging
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.data import pipeline
from alp_jax.data.labels import LabelSet
from alp_jax.data.sources import SegmentationSource
from alp_jax.devices import mesh, processes
from alp_jax.evaluation.logits import check_finite
from alp_jax.evaluation.predictor import Predictor, Recipe
from alp_jax.models.segmenter import Segmenter
from alp_jax.self_training.examples import TargetBatches
from alp_jax.self_training.prior import compute_prior
from alp_jax.self_training.selection import choose_labels
from alp_jax.self_training.thresholds import ConfidenceHistogram
from alp_jax.workdir import rounds
from alp_jax.workdir.settings import RunSettings

PyTree = Any
Network = tuple[PyTree, PyTree]  # (params, model_state).

logger = logging.getLogger(__name__)


class Labeller:
    """Makes the pseudo-labels of any round of a run; compiles once."""

    def __init__(
        self,
        settings: RunSettings,
        segmenter: Segmenter,
        label_set: LabelSet,
        target: SegmentationSource,
        devices: jax.sharding.Mesh,
    ):
        """Creates the passes.

        Args:
          settings: of the run.
          segmenter: the network.
          label_set: the classes.
          target: training split of the target, without labels.
          devices: over which images and their rows are spread.
        """
        self._settings, self._label_set = settings, label_set
        self._target, self._devices = target, devices
        data_axis = devices.shape[mesh.DATA]
        # Padded to images for all devices.
        self._batch_size = -(-settings.evaluation.batch_size // data_axis) * data_axis
        found = settings.rounds
        recipe = Recipe(flip=found.prediction_flip, scales=found.prediction_scales)
        predictor = Predictor((segmenter,), settings.data.target_size, recipe)
        size = settings.data.target_size

        def predict(variables: Network, images: jax.Array, prior: jax.Array | None) -> jax.Array:
            probs = jax.nn.softmax(predictor.predict((variables,), images, size))
            return probs if prior is None else probs * prior

        @functools.partial(jax.jit, out_shardings=mesh.replicate(devices))
        def trust(
            variables: Network, images: jax.Array, prior: jax.Array | None
        ) -> tuple[jax.Array, jax.Array]:
            probs = predict(variables, images, prior)
            return jnp.max(probs, axis=-1), jnp.argmax(probs, axis=-1).astype(jnp.uint8)

        @functools.partial(jax.jit, out_shardings=mesh.replicate(devices))
        def choose(
            variables: Network,
            images: jax.Array,
            prior: jax.Array | None,
            thresholds: jax.Array,
        ) -> jax.Array:
            probs = predict(variables, images, prior)
            return choose_labels(probs, thresholds, temperature=settings.teacher.label_temperature)

        self._trust, self._choose = trust, choose

    def label(
        self, folder: pathlib.Path, number: int, variables: Network, *, step: int
    ) -> rounds.Thresholds:
        """Makes the pseudo-labels of all target images, or what is left to make of them.

        Args:
          folder: of the round's files.
          number: of the round.
          variables: parameters and statistics at the beginning of the round.
          step: number of its updates.
        Raises:
          UserError: if predictions are not finite, or files cannot be written.
        """
        variables = mesh.copy_everywhere(variables, self._devices)
        weights = rounds.digest(*variables)
        if self._is_begun(folder, weights):
            found = rounds.read(folder)
            assert found is not None
        else:
            found = self._find_thresholds(number, variables, weights, step)
            processes.from_primary(lambda: rounds.begin(folder, found))
        self._label(folder, found, variables)
        processes.from_primary(lambda: self._finish(folder, number, found))
        return found

    def is_complete(self, folder: pathlib.Path, variables: Network | None) -> bool:
        """Returns whether a folder holds all labels, and those of a network if one is given."""
        weights = None if variables is None else rounds.digest(*variables)
        return self._ask(lambda: self._fits(folder, weights) and rounds.is_complete(folder))

    def _is_begun(self, folder: pathlib.Path, weights: str) -> bool:
        return self._ask(lambda: self._fits(folder, weights))

    def _fits(self, folder: pathlib.Path, weights: str | None) -> bool:
        found = rounds.read(folder)
        if found is None or found.num_images != len(self._target):
            return False
        return weights is None or found.weights_sha256 == weights

    @staticmethod
    def _ask(question: Callable[[], bool]) -> bool:
        """Asks the process that writes the files; all must go the same way."""
        return bool(processes.from_primary(lambda: int(question())))

    def _find_thresholds(
        self, number: int, variables: Network, weights: str, step: int
    ) -> rounds.Thresholds:
        """Predicts all images, and finds the thresholds of the round."""
        settings = self._settings.rounds
        logger.info("Round %d: predicting %d target images.", number + 1, len(self._target))
        histogram = ConfidenceHistogram(
            self._label_set.num_classes, stride=settings.confidence_stride
        )
        for indices, images in self._iterate(start=0):
            confidences, predictions = map(np.asarray, self._trust(variables, images, self._prior))
            names = [f"target image {index}" for index in indices]
            check_finite(names, confidences[: len(indices)], step=step)
            for place in range(len(indices)):
                histogram.add(confidences[place], predictions[place])
        portion = settings.find_portion(number)
        thresholds = histogram.find_thresholds(portion, settings.balance)
        return rounds.Thresholds(
            step=step,
            weights_sha256=weights,
            portion=portion,
            thresholds=tuple(map(float, thresholds)),
            class_pixels=tuple(map(int, histogram.pixels)),
            mined_classes=histogram.find_rare(settings.mined_share),
            num_images=len(self._target),
            size=self._settings.data.target_size,
        )

    def _label(self, folder: pathlib.Path, found: rounds.Thresholds, variables: Network) -> None:
        """Predicts images again, from the first whose label is missing, and writes the labels."""
        done = processes.from_primary(
            lambda: rounds.count_labels(folder, found.num_images, found.size)
        )
        assert done is not None
        thresholds = mesh.copy_everywhere(jnp.asarray(found.thresholds, jnp.float32), self._devices)
        if done == found.num_images:
            return
        for indices, images in self._iterate(start=done // self._batch_size):
            labels = np.asarray(self._choose(variables, images, self._prior, thresholds))
            if processes.is_primary():
                for place, index in enumerate(indices):
                    rounds.save_label(folder, index, labels[place])

    def _finish(self, folder: pathlib.Path, number: int, found: rounds.Thresholds) -> None:
        share = rounds.finish(folder, found, self._label_set.names)
        logger.info(
            "Round %d: %.1f %% of the pixels have a pseudo-label; thresholds and shares of classes "
            "are in %s.",
            number + 1,
            100 * share,
            folder,
        )

    def _iterate(self, start: int) -> Iterator[tuple[list[int], Any]]:
        """Yields (indices, images on the devices) of each batch from a number on."""
        local = list(mesh.local_images(self._devices, self._batch_size))
        data = self._settings.data
        batches = grain.MapDataset.source(TargetBatches(self._target, data, self._batch_size))
        for indices, images in pipeline.iterate(
            batches, start, num_workers=0, prefetch_batches=data.prefetch_batches
        ):
            placed = mesh.place_batch(images[local], self._devices, batch_size=self._batch_size)
            yield indices, placed

    @functools.cached_property
    def _prior(self) -> jax.Array | None:
        """The spatial prior, from all labels of the source; None without."""
        settings, data = self._settings.rounds, self._settings.data
        if settings.prior == "none":
            return None
        source = pipeline.open_domain(data, "source", self._label_set, read_images=False)
        logger.info("Counting the classes at each position in %d source labels.", len(source))
        prior = compute_prior(
            (source[index]["label"] for index in range(len(source))),
            num_classes=self._label_set.num_classes,
            size=data.target_size,
            blur=settings.prior_blur,
        )
        return mesh.copy_everywhere(jnp.asarray(prior), self._devices)
