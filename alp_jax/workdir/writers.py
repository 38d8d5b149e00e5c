"""Writes the scalars of a run to metrics.jsonl and TensorBoard."""

import contextlib
import logging
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Self

import numpy as np
from clu import asynclib
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from alp_jax.errors import UserError, describe
from alp_jax.workdir import files, tensorboard
from alp_jax.workdir.settings import RunSettings

logger = logging.getLogger(__name__)

FILE_NAME = "metrics.jsonl"
_EVENTS = "TensorBoard's events"


class _TensorBoard:
    """Writes events in a background thread, so that training never waits for them.

    Methods raise the error of an earlier call.
    """

    def __init__(self, workdir: pathlib.Path):
        # tensorboardX names files by whole seconds; a second run of the folder must not be shorter.
        self._prefix, self._suffix = str(workdir.absolute() / "events"), f".{time.time_ns()}"
        self._pool = asynclib.Pool("tensorboard", max_workers=1)
        self._file: EventsWriter | None = None

    def write(self, step: int, create: Callable[[], Summary]) -> None:
        """Queues a summary, which the other thread creates."""
        self._pool(self._write)(step, create, time.time())

    def close(self) -> None:
        """Waits until all is written."""
        try:
            self._pool.close()
        finally:
            if self._file is not None:
                self._file.close()

    def _write(self, step: int, create: Callable[[], Summary], wall_time: float) -> None:
        if self._file is None:
            self._file = EventsWriter(self._prefix, self._suffix)
        self._file.write_event(Event(step=step, wall_time=wall_time, summary=create()))
        self._file.flush()


def _create_scalars(scalars: Mapping[str, float]) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, simple_value=x) for tag, x in scalars.items()])


def _create_images(images: Mapping[str, np.ndarray]) -> Summary:
    """Creates a grid of each entry's images [N, H, W, 3]."""
    found = Summary()
    for tag, image in images.items():
        found.MergeFrom(summary.image(tag, image, dataformats="NHWC"))
    return found


class MetricsWriter:
    """Appends scalars to `workdir/metrics.jsonl`, one JSON object a line, and TensorBoard's events.

    If writing fails, on a full disk say, the run logs a warning and goes on; unwritten lines of
    metrics.jsonl are kept in memory and written once the disk allows it.
    """

    def __init__(self, workdir: pathlib.Path, *, from_step: int, writes_events: bool):
        """Opens the files; removes lines after `from_step`, since those steps will run again.

        Without `writes_events` nothing is written for TensorBoard.

        Raises:
          UserError: if metrics.jsonl cannot be written, or is not such a file.
        """
        self._path = workdir / FILE_NAME
        try:
            drop_lines_after(self._path, from_step)
            self._file = self._path.open("ab", buffering=0)
        except OSError as error:
            raise UserError(
                f"Cannot write {self._path} ({describe(error)}): free some space there or make it "
                "writable."
            ) from error
        self._unwritten = b""
        self._tensorboard = _TensorBoard(workdir) if writes_events else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write_lines()
        self._file.close()
        if self._tensorboard is not None:
            with self._warning(_EVENTS):
                self._tensorboard.close()

    def write_run(self, settings: RunSettings) -> None:
        """Writes the run's settings to TensorBoard, for its tabs "HParams" and "Text"."""
        if self._tensorboard is None:
            return
        _, hyperparameters, _ = summary.hparams(tensorboard.hyperparameters(settings), {})
        hyperparameters.MergeFrom(summary.text("run", tensorboard.describe_run(settings)))
        self._write_events(0, lambda: hyperparameters)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one line, {"step": step, **scalars}."""
        self._unwritten += files.to_json({"step": step, **scalars}).encode() + b"\n"
        self._write_lines()
        grouped = tensorboard.group_scalars(scalars)
        self._write_events(step, lambda: _create_scalars(grouped))

    def _write_events(self, step: int, create: Callable[[], Summary]) -> None:
        if self._tensorboard is not None:
            with self._warning(_EVENTS):
                self._tensorboard.write(step, create)

    def _write_lines(self) -> None:
        with self._warning(FILE_NAME):
            while self._unwritten:  # A disk that fills up may take a part of the bytes.
                written = self._file.write(self._unwritten)
                self._unwritten = self._unwritten[written:]

    @contextlib.contextmanager
    def _warning(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, asynclib.AsyncError) as error:
            logger.warning(
                "%s could not be written in %s (%s): the run goes on; free some space there or "
                "make it writable.",
                what,
                self._path.parent,
                describe(error.__cause__ or error),
            )

    def write_evaluation(
        self,
        step: int,
        scores: Mapping[str, object],
        paint: Callable[[], Mapping[str, np.ndarray]],
    ) -> None:
        """Writes an evaluation's scores and pictures to TensorBoard, not to metrics.jsonl."""
        if self._tensorboard is None:
            return
        scalars = {
            f"evaluation/{name}": float(value)
            for name, value in scores.items()
            if isinstance(value, float)
        }
        ious = scores["iou_per_class"]
        assert isinstance(ious, dict)
        scalars |= {f"iou/{name}": iou for name, iou in ious.items() if iou is not None}
        images = paint()
        self._write_events(step, lambda: _create_scalars(scalars))
        self._write_events(step, lambda: _create_images(images))


class NoWriter(contextlib.nullcontext["NoWriter"]):
    """Replaces a `MetricsWriter` in processes that write nothing."""

    def __init__(self) -> None:
        super().__init__(self)

    def write_run(self, *_: object) -> None:
        """Does nothing."""

    def write_scalars(self, *_: object) -> None:
        """Does nothing."""

    def write_evaluation(self, *_: object) -> None:
        """Does nothing."""


def drop_lines_after(path: pathlib.Path, step: int) -> None:
    """Removes the lines of steps after `step`, and a last line that a kill cut short.

    Raises:
      UserError: if another line is not the JSON that training writes.
    """
    if not path.exists():
        return
    kept = []
    for number, line in enumerate(path.read_text().splitlines(keepends=True), start=1):
        try:
            if files.from_json(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError) as error:
            if not line.endswith("\n"):  # Cut short by a kill; the step will run again.
                continue
            raise UserError(
                f"Line {number} of {path} is not the JSON that training writes: mend or remove "
                "that line, then start again."
            ) from error
    files.write_text(path, "".join(kept))
