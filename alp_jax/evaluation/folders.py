"""Predictions of a folder of images, or of a video, as files.

Synopsis:

  result = predict_to_folder(load_segmenter("runs/alp"), "camera/*.jpg", "predictions")
  result.failed      # what could not be read; everything else is written

What is written: docs/predict.md.
"""

import collections
import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from matplotlib.figure import Figure

from alp_jax.command import versions
from alp_jax.command.counter import count
from alp_jax.data import walk
from alp_jax.data.frames import Frame, Frames, find_frames
from alp_jax.data.image_files import ImageError
from alp_jax.data.intensity import Intensity
from alp_jax.data.labels import LabelSet
from alp_jax.data.walk import PassedOver
from alp_jax.errors import UserError, describe, printable
from alp_jax.evaluation import figures
from alp_jax.evaluation.prediction import Prediction
from alp_jax.evaluation.prediction_files import PredictionFiles, read_summary
from alp_jax.evaluation.segmenter import FittedImage, TrainedSegmenter
from alp_jax.workdir import outputs

LEGEND = "legend.png"
_THREADS = 4  # That read, and as many that write.

_OUTPUTS = outputs.Kind("predictions", is_earlier=lambda folder: read_summary(folder) is not None)

T = TypeVar("T")
R = TypeVar("R")


@dataclasses.dataclass
class PredictedFolder:
    """What became of everything in an input.

    Attributes:
      output: the folder.
      written: name -> {"size": [H, W], "mean_entropy": [0, 1]}.
      failed: what a message calls an image -> why, as the end of a sentence.
      passed_over: what is no image to predict: hidden files, files of other kinds.
      num_stretched: images whose proportions are another's than the network's by a tenth or more,
        where they were not kept.
    """

    output: pathlib.Path
    written: dict[str, dict[str, object]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    passed_over: list[PassedOver] = dataclasses.field(default_factory=list)
    num_stretched: int = 0


def predict_to_folder(
    segmenter: TrainedSegmenter,
    images: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    with_probabilities: bool = False,
    max_pixels: int | None = None,
    intensity: Intensity | None = None,
) -> PredictedFolder:
    """Predicts every image of an input and writes label ids and pictures.

    An image that cannot be read is among `failed`, and does not stop the others.

    Args:
      segmenter: that predicts.
      images: a folder, an image, a video, or a pattern of files.
      output: folder, new or empty or of earlier predictions, which are removed.
      with_probabilities: whether to write those of all classes, too: large files.
      max_pixels: most pixels that an image may have; None: 89 million, as in Pillow.
      intensity: how images of more than 8 bits become 8, as when the run's images were prepared;
        None: images that would lose values fail.
    Raises:
      UserError: if there is no image, or none can be predicted; the output lies in the input or the
        input in the output; or the output holds other files, or earlier predictions that were
        changed, or cannot be written.
    """
    folder = pathlib.Path(output).expanduser()
    _check_apart(images, folder)
    frames = find_frames(images, max_pixels=max_pixels, intensity=intensity)
    outputs.check_inputs_outside((file.path for file in frames.files), folder)
    outputs.claim(folder, _OUTPUTS)
    result = PredictedFolder(folder)
    _note_passed_over(frames, result)
    try:
        written = PredictionFiles(folder)
        _predict_all(segmenter, frames, written, result, with_probabilities)
        if not result.written:
            raise _nothing_predicted(images, result)
        written.finish(_summarise(result, segmenter, os.fspath(images)))
    except OSError as error:
        raise UserError(
            f"Cannot write predictions to {folder} ({describe(error)}): give an output "
            "folder that you may write to, with enough space."
        ) from error
    return result


def _check_apart(images: str | os.PathLike[str], folder: pathlib.Path) -> None:
    source = pathlib.Path(os.path.expanduser(images))
    if os.path.isdir(source) and folder.resolve().is_relative_to(source.resolve()):
        raise UserError(
            f"The output {folder} lies in the input {source}, so that the next time predictions "
            "would be taken for images: give a folder beside it."
        )


def _note_passed_over(frames: Frames, result: PredictedFolder) -> None:
    """Notes what is not among the frames; what should have been read has failed."""
    for one in frames.passed_over:
        if one.kind in walk.FAULTS:
            result.failed[printable(str(frames.root / one.path))] = one.reason
        else:
            result.passed_over.append(one)


def _nothing_predicted(images: str | os.PathLike[str], result: PredictedFolder) -> UserError:
    reasons = [f"{source} {reason}" for source, reason in result.failed.items()]
    more = f"; and {len(reasons) - 3:,} more" if len(reasons) > 3 else ""
    return UserError(
        f"Nothing of the input {os.fspath(images)!r} could be predicted: "
        f"{'; '.join(reasons[:3])}{more}."
    )


def _predict_all(
    segmenter: TrainedSegmenter,
    frames: Frames,
    output: PredictionFiles,
    result: PredictedFolder,
    with_probabilities: bool,
) -> None:
    """Predicts and writes all images, and notes what became of each."""

    def write(pair: tuple[Frame, Prediction]) -> tuple[Frame, Prediction, str | None]:
        return *pair, output.write(pair[0].name, pair[1])

    with ThreadPoolExecutor(_THREADS) as pool, count("predicting", frames.total) as advance:
        predictions = _predict(segmenter, frames, pool, result, with_probabilities)
        begun = _begin_with_first(predictions, output, segmenter.label_set, result.output)
        for frame, prediction, failure in _map_ahead(pool, write, begun, _ahead(segmenter)):
            if failure is None:
                result.written[frame.name] = {
                    "size": list(prediction.train_ids.shape),
                    "mean_entropy": round(float(prediction.entropy.mean()), 6),
                }
            else:
                result.failed[frame.source] = failure
            advance()


def _begin_with_first(
    predictions: Iterable[T], output: PredictionFiles, label_set: LabelSet, folder: pathlib.Path
) -> Iterator[T]:
    """Removes earlier predictions as soon as there is a new one."""
    for number, prediction in enumerate(predictions):
        if number == 0:
            output.begin()
            _save_legend(folder / LEGEND, label_set)
        yield prediction


def _predict(
    segmenter: TrainedSegmenter,
    frames: Iterable[Frame],
    pool: ThreadPoolExecutor,
    result: PredictedFolder,
    with_probabilities: bool,
) -> Iterator[tuple[Frame, Prediction]]:
    """Yields predictions, reading ahead; notes what fails."""
    names = _Names()
    waiting: collections.deque[Frame] = collections.deque()

    def read(frame: Frame) -> tuple[Frame, FittedImage | ImageError]:
        try:
            return frame, segmenter.fit(frame.read())
        except ImageError as error:
            return frame, error

    def read_all() -> Iterator[FittedImage]:
        ahead = _ahead(segmenter, segmenter.batch_size)
        for frame, fitted in _map_ahead(pool, read, frames, ahead):
            failure = str(fitted) if isinstance(fitted, ImageError) else names.take(frame)
            if failure or isinstance(fitted, ImageError):
                result.failed[frame.source] = failure
                continue
            result.num_stretched += segmenter.stretches(fitted)
            waiting.append(frame)
            yield fitted

    for prediction in segmenter.predict_fitted(read_all(), with_probabilities=with_probabilities):
        yield waiting.popleft(), prediction


def _ahead(segmenter: TrainedSegmenter, at_least: int = 1) -> int:
    """Returns how many images are held ahead; windows are for images that fill the memory."""
    return 1 if segmenter.proportions == "windows" else max(_THREADS, at_least)


class _Names:
    """Names of outputs; a name cannot be had twice, nor also be the folder of another."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}  # Path of an output -> its image in messages.
        self._folders: dict[str, str] = {}

    def take(self, frame: Frame) -> str:
        """Takes the name of a frame; returns why it cannot be had, as a sentence's end, or ""."""
        path = f"{frame.name}.png"
        folders = [parent.as_posix() for parent in pathlib.PurePosixPath(path).parents]
        other = self._files.get(path)
        if other is not None:
            return f"would have the same outputs as {other}: rename one"
        other = self._folders.get(path) or next(filter(None, map(self._files.get, folders)), None)
        if other is not None:
            return f"would have outputs where {other} has a folder or a file: rename one"
        self._files[path] = frame.source
        self._folders |= dict.fromkeys(folders, frame.source)
        return ""


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


def _save_legend(path: pathlib.Path, label_set: LabelSet) -> None:
    handles = figures.class_handles(label_set, not_evaluated=False)
    columns = figures.legend_columns(handles, 7)
    height = max(0.9, 0.3 * math.ceil(len(handles) / columns))
    figure = Figure(figsize=(8.0, height), layout="constrained", dpi=100)
    figure.legend(handles=handles, loc="center", ncols=columns, fontsize=8, frameon=False)
    figures.save(figure, path)


def _summarise(
    result: PredictedFolder, segmenter: TrainedSegmenter, images: str
) -> dict[str, object]:
    return {
        "input": images,
        "step": segmenter.step,
        "network_size": list(segmenter.size),
        "proportions": segmenter.proportions,
        **segmenter.ensemble.describe(),
        "label_ids": {c.label_id: c.name for c in segmenter.label_set.classes},
        "versions": versions.describe(),
        "images": result.written,
        "failed": result.failed,
        "passed_over": {printable(one.path): one.reason for one in result.passed_over},
    }
