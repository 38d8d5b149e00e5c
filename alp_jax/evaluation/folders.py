"""Predictions of a folder of images, or of a video, as files.

Synopsis:

  result = predict_to_folder(load_segmenter("runs/alp"), "camera/*.jpg", "predictions")
  result.failed      # what could not be read; everything else is written

What is written: docs/predict.md.
"""

import collections
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from alp_jax.command import versions
from alp_jax.command.counter import count
from alp_jax.data.frames import Frame, find_frames
from alp_jax.data.images import ImageError
from alp_jax.data.labels import LabelSet
from alp_jax.errors import UserError
from alp_jax.evaluation import figures
from alp_jax.evaluation.segmenter import FittedImage, Prediction, TrainedSegmenter
from alp_jax.workdir import files, outputs

SUMMARY = "predictions.json"
LEGEND = "legend.png"
PROBABILITIES = "probabilities"
# Folder of the output -> the picture in it.
_PICTURES: dict[str, Callable[[Prediction], np.ndarray]] = {
    "label_ids": lambda prediction: prediction.label_ids,
    "colour": lambda prediction: prediction.colour(),
    "overlay": lambda prediction: prediction.overlay(),
    "entropy": lambda prediction: prediction.entropy_colour(),
}
_THREADS = 4  # That read, and as many that write.
_COMPRESSION = 3  # Of PNG: half the time of Pillow's 6, files a tenth larger.

T = TypeVar("T")
R = TypeVar("R")


@dataclasses.dataclass
class PredictedFolder:
    """What became of the images of an input.

    Attributes:
      output: the folder.
      written: name -> {"size": [H, W], "mean_entropy": [0, 1]}.
      failed: what a message calls an image -> why, as the end of a sentence.
      num_stretched: images whose proportions are another's than the network's by a tenth or more,
        where they were not kept.
    """

    output: pathlib.Path
    written: dict[str, dict[str, object]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    num_stretched: int = 0


def predict_to_folder(
    segmenter: TrainedSegmenter,
    images: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    with_probabilities: bool = False,
) -> PredictedFolder:
    """Predicts every image of an input and writes label ids and pictures.

    An image that cannot be read is among `failed`, and does not stop the others.

    Args:
      segmenter: that predicts.
      images: a folder, an image, a video, or a pattern of files.
      output: folder, new or empty or of earlier predictions, which are replaced.
      with_probabilities: whether to write those of all classes, too: large files.
    Raises:
      UserError: if there is no image, the output lies in the input or the input in the output, or
        the output holds other files or cannot be written.
    """
    folder = pathlib.Path(output).expanduser()
    _check_apart(images, folder)
    frames = find_frames(images)
    outputs.check_inputs_outside(frames.files, folder)
    outputs.claim(folder, "predictions", is_earlier=_has_summary)
    result = PredictedFolder(folder)
    try:
        _save_legend(folder / LEGEND, segmenter.label_set)
        with ThreadPoolExecutor(_THREADS) as pool, count("predicting", frames.total) as advance:
            predictions = _predict(segmenter, frames, pool, result, with_probabilities)
            written = _map_ahead(pool, lambda pair: _write(folder, *pair), predictions, _THREADS)
            for name, described in written:
                result.written[name] = described
                advance()
        _save_summary(result, segmenter, os.fspath(images))
    except OSError as error:
        raise UserError(
            f"Cannot write predictions to {folder} ({error.strerror or error}): give an output "
            "folder that you may write to, with enough space."
        ) from error
    return result


def _has_summary(folder: pathlib.Path) -> bool:
    """Returns whether a folder has a summary of predictions; earlier versions left no mark."""
    try:
        summary = json.loads((folder / SUMMARY).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and {"input", "label_ids", "images"} <= summary.keys()


def _check_apart(images: str | os.PathLike[str], folder: pathlib.Path) -> None:
    source = pathlib.Path(images).expanduser()
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"The output {folder} lies in the input {source}, so that the next time predictions "
            "would be taken for images: give a folder beside it."
        )


def _predict(
    segmenter: TrainedSegmenter,
    frames: Iterable[Frame],
    pool: ThreadPoolExecutor,
    result: PredictedFolder,
    with_probabilities: bool,
) -> Iterator[tuple[str, Prediction]]:
    """Yields (name, prediction), reading ahead; notes what fails."""
    sources: dict[str, str] = {}
    batch: dict[str, FittedImage] = {}

    def predict_batch() -> Iterator[tuple[str, Prediction]]:
        fitted = list(batch.values())
        predictions = segmenter.predict_batch(fitted, with_probabilities=with_probabilities)
        yield from zip(batch, predictions, strict=True)
        batch.clear()

    def read(frame: Frame) -> tuple[Frame, FittedImage | ImageError]:
        try:
            return frame, segmenter.fit(frame.read())
        except ImageError as error:
            return frame, error

    ahead = max(_THREADS, segmenter.batch_size)
    for frame, fitted in _map_ahead(pool, read, frames, ahead):
        if isinstance(fitted, ImageError):
            result.failed[frame.source] = str(fitted)
        elif frame.name in sources:
            result.failed[frame.source] = (
                f"would have the same outputs as {sources[frame.name]}: rename one"
            )
        else:
            sources[frame.name] = frame.source
            result.num_stretched += segmenter.stretches(fitted)
            batch[frame.name] = fitted
            if len(batch) == segmenter.batch_size:
                yield from predict_batch()
    if batch:
        yield from predict_batch()


def _map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[R]:
    """Yields function(item) in order; threads work on a few items more than were taken."""
    begun: collections.deque[Future[R]] = collections.deque()
    for item in items:
        begun.append(pool.submit(function, item))
        if len(begun) > ahead:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _write(
    folder: pathlib.Path, name: str, prediction: Prediction
) -> tuple[str, dict[str, object]]:
    """Writes the files of one image; returns (name, what the summary says of it)."""
    for kind, paint in _PICTURES.items():
        path = folder / kind / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(paint(prediction)).save(path, compress_level=_COMPRESSION)
    if prediction.probabilities is not None:
        path = folder / PROBABILITIES / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            path,
            probabilities=prediction.probabilities.astype(np.float16),
            names=np.array(prediction.label_set.names),
            label_ids=np.array([c.label_id for c in prediction.label_set.classes]),
        )
    size = list(prediction.train_ids.shape)
    return name, {"size": size, "mean_entropy": round(float(prediction.entropy.mean()), 6)}


def _save_legend(path: pathlib.Path, label_set: LabelSet) -> None:
    handles = figures.class_handles(label_set, not_evaluated=False)
    columns = figures.legend_columns(handles, 7)
    height = max(0.9, 0.3 * math.ceil(len(handles) / columns))
    figure = Figure(figsize=(8.0, height), layout="constrained", dpi=100)
    figure.legend(handles=handles, loc="center", ncols=columns, fontsize=8, frameon=False)
    figures.save(figure, path)


def _save_summary(result: PredictedFolder, segmenter: TrainedSegmenter, images: str) -> None:
    summary = {
        "input": images,
        "step": segmenter.step,
        "network_size": list(segmenter.size),
        "proportions": segmenter.proportions,
        **segmenter.ensemble.describe(),
        "label_ids": {c.label_id: c.name for c in segmenter.label_set.classes},
        "versions": versions.describe(),
        "images": result.written,
        "failed": result.failed,
    }
    files.write_json(result.output / SUMMARY, summary)
