"""Where the numbers of a run go: metrics.jsonl and TensorBoard.

The only module that imports clu.metric_writers, and through it TensorFlow: some seconds.
"""

import concurrent.futures
import contextlib
import json
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
    """clu's writer, in a thread of its own: nothing waits for it.

    It is opened by the first `write` that is urgent, since that imports TensorFlow, which takes as
    long as all else that comes before a run's first step.
    """

    def __init__(self, workdir: pathlib.Path):
        self._workdir = workdir
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "tensorboard")
        self._tasks: list[concurrent.futures.Future[None]] = []
        self._waiting: list[tuple[str, tuple[Any, ...]]] = []
        self._is_open = False
        self._writer: Any = None

    def write(self, method: str, *arguments: Any, urgent: bool = True) -> None:
        """Calls a method of the writer, later.

        Raises:
          Exception: what an earlier call raised.
        """
        self._waiting.append((method, arguments))
        if urgent or self._is_open:
            self._submit_all()
        self._raise_errors()

    def close(self) -> None:
        """Waits for all that was to be written; raises as `write` does."""
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

    Where they cannot be written, on a full disk say, the run goes on: it warns, and the lines of
    metrics.jsonl are kept and written when that is possible again.
    """

    def __init__(self, workdir: pathlib.Path, *, from_step: int, writes_events: bool):
        """Opens both, dropping lines past `from_step`: those steps are about to be run again.

        Without `writes_events` TensorBoard is given nothing and TensorFlow not imported.

        Raises:
          UserError: if the file cannot be written, or holds something else.
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
        self._unwritten += json.dumps({"step": step, **scalars}).encode() + b"\n"
        self._write_lines()
        self._write_events("write_scalars", step, tensorboard.group_scalars(scalars))

    def _write_events(self, method: str, *arguments: Any, urgent: bool = True) -> None:
        if self._tensorboard is not None:
            with self._warning(_EVENTS):
                self._tensorboard.write(method, *arguments, urgent=urgent)

    def _write_lines(self) -> None:
        with self._warning(FILE_NAME):
            while self._unwritten:  # A disk that fills up takes a part.
                written = self._file.write(self._unwritten)
                self._unwritten = self._unwritten[written:]

    @contextlib.contextmanager
    def _warning(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # TensorFlow has types of its own for a full disk.
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
        """Writes an evaluation's scores and pictures to TensorBoard; they have their own files."""
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
    """In the place of a `MetricsWriter` in processes that write nothing."""

    def __init__(self) -> None:
        super().__init__(self)

    def write_run(self, *_: object) -> None:
        """Does nothing."""

    def write_scalars(self, *_: object) -> None:
        """Does nothing."""

    def write_evaluation(self, *_: object) -> None:
        """Does nothing."""


def drop_lines_after(path: pathlib.Path, step: int) -> None:
    """Removes the lines of steps past `step`, and one that a kill cut short.

    Raises:
      UserError: if the file holds something else.
    """
    if not path.exists():
        return
    kept = []
    for number, line in enumerate(path.read_text().splitlines(keepends=True), start=1):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError) as error:
            if not line.endswith("\n"):  # Cut short by a kill: the step is run again.
                continue
            raise UserError(
                f"Line {number} of {path} is not the JSON that training writes: mend or remove "
                "that line, then start again."
            ) from error
    files.write_text(path, "".join(kept))
