"""Writes the scalars of a run to metrics.jsonl and TensorBoard.

The only module that imports clu.metric_writers, and through it TensorFlow, which takes seconds.
"""

import concurrent.futures
import contextlib
import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import numpy as np

from alp_jax.errors import UserError, describe
from alp_jax.workdir import files, tensorboard
from alp_jax.workdir.settings import RunSettings

logger = logging.getLogger(__name__)

FILE_NAME = "metrics.jsonl"
_EVENTS = "TensorBoard's events"


class _TensorBoard:
    """Calls clu's writer in a background thread, so that training never waits for it.

    The first urgent `write` opens clu's writer. Opening imports TensorFlow, which takes as long as
    everything else before a run's first step.
    """

    def __init__(self, workdir: pathlib.Path):
        self._workdir = workdir
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "tensorboard")
        self._tasks: list[concurrent.futures.Future[None]] = []
        self._waiting: list[tuple[str, tuple[Any, ...]]] = []
        self._is_open = False
        self._writer: Any = None

    def write(self, method: str, *arguments: Any, urgent: bool = True) -> None:
        """Queues a call of a method of clu's writer.

        Raises:
          Exception: an error of an earlier call.
        """
        self._waiting.append((method, arguments))
        if urgent or self._is_open:
            self._submit_all()
        self._raise_errors()

    def close(self) -> None:
        """Waits until all queued calls are done; raises as `write` does."""
        if self._waiting or self._is_open:
            self._waiting.append(("close", ()))
            self._submit_all()
        self._executor.shutdown()
        self._raise_errors()

    def _submit_all(self) -> None:
        if not self._is_open:
            self._tasks.append(self._executor.submit(self._open))
            self._is_open = True
        for method, arguments in self._waiting:
            self._tasks.append(self._executor.submit(self._call, method, arguments))
        self._waiting = []

    def _open(self) -> None:
        from clu import metric_writers

        self._writer = metric_writers.SummaryWriter(str(self._workdir))

    def _call(self, method: str, arguments: tuple[Any, ...]) -> None:
        getattr(self._writer, method)(*arguments)

    def _raise_errors(self) -> None:
        done = [task for task in self._tasks if task.done()]
        self._tasks = [task for task in self._tasks if task not in done]
        for task in done:
            task.result()


class MetricsWriter:
    """Appends scalars to `workdir/metrics.jsonl`, one JSON object a line, and TensorBoard's events.

    If writing fails, on a full disk say, the run logs a warning and goes on; unwritten lines of
    metrics.jsonl are kept in memory and written once the disk allows it.
    """

    def __init__(self, workdir: pathlib.Path, *, from_step: int, writes_events: bool):
        """Opens the files; removes lines after `from_step`, since those steps will run again.

        Without `writes_events` nothing is written for TensorBoard, and TensorFlow is not imported.

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
        hyperparameters = tensorboard.hyperparameters(settings)
        described = {"run": tensorboard.describe_run(settings)}
        self._write_events("write_hparams", hyperparameters, urgent=False)
        self._write_events("write_texts", 0, described, urgent=False)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one line, {"step": step, **scalars}."""
        self._unwritten += files.to_json({"step": step, **scalars}).encode() + b"\n"
        self._write_lines()
        self._write_events("write_scalars", step, tensorboard.group_scalars(scalars))

    def _write_events(self, method: str, *arguments: Any, urgent: bool = True) -> None:
        if self._tensorboard is not None:
            with self._warning(_EVENTS):
                self._tensorboard.write(method, *arguments, urgent=urgent)

    def _write_lines(self) -> None:
        with self._warning(FILE_NAME):
            while self._unwritten:  # A disk that fills up may take a part of the bytes.
                written = self._file.write(self._unwritten)
                self._unwritten = self._unwritten[written:]

    @contextlib.contextmanager
    def _warning(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # TensorFlow raises its own types for a full disk.
            logger.warning(
                "%s could not be written in %s (%s): the run goes on; free some space there or "
                "make it writable.",
                what,
                self._path.parent,
                describe(error),
            )

    def write_evaluation(
        self,
        step: int,
        summary: Mapping[str, object],
        paint: Callable[[], Mapping[str, np.ndarray]],
    ) -> None:
        """Writes an evaluation's scores and pictures to TensorBoard, not to metrics.jsonl."""
        if self._tensorboard is None:
            return
        scalars = {
            f"evaluation/{name}": float(value)
            for name, value in summary.items()
            if isinstance(value, float)
        }
        ious = summary["iou_per_class"]
        assert isinstance(ious, dict)
        scalars |= {f"iou/{name}": iou for name, iou in ious.items() if iou is not None}
        self._write_events("write_scalars", step, scalars, urgent=False)
        self._write_events("write_images", step, paint(), urgent=False)
        self._write_events("flush", urgent=False)


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
