"""Where the numbers of a run go: metrics.jsonl and TensorBoard.

The only module that imports clu.metric_writers, and that only to write: with it comes TensorFlow,
some seconds and half a gigabyte.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Self

import ml_collections
import numpy as np

from alp_jax import files, tensorboard
from alp_jax.errors import UserError

FILE_NAME = "metrics.jsonl"


class MetricsWriter:
    """Appends scalars to `workdir/metrics.jsonl`, one JSON object a line, and to TensorBoard."""

    def __init__(self, workdir: pathlib.Path, *, from_step: int):
        """Opens both, dropping lines past `from_step`: those steps are about to be run again."""
        from clu import metric_writers

        self._path = workdir / FILE_NAME
        _drop_lines_after(self._path, from_step)
        self._file = self._path.open("a")
        self._tensorboard = metric_writers.AsyncMultiWriter(
            [metric_writers.SummaryWriter(str(workdir))]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._tensorboard.close()

    def write_run(self, run_config: ml_collections.ConfigDict) -> None:
        """Writes the run's settings to TensorBoard, for its tabs "HParams" and "Text"."""
        self._tensorboard.write_hparams(tensorboard.hyperparameters(run_config))
        self._tensorboard.write_texts(0, {"run": tensorboard.describe_run(run_config)})

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one line, {"step": step, **scalars}."""
        self._file.write(json.dumps({"step": step, **scalars}) + "\n")
        self._file.flush()
        self._tensorboard.write_scalars(step, tensorboard.group_scalars(scalars))

    def write_evaluation(
        self,
        step: int,
        summary: Mapping[str, object],
        pictures: Mapping[str, np.ndarray],
    ) -> None:
        """Writes an evaluation's scores and pictures to TensorBoard; they have their own files."""
        scalars = {
            f"evaluation/{name}": float(value)
            for name, value in summary.items()
            if isinstance(value, float)
        }
        ious = summary["iou_per_class"]
        assert isinstance(ious, dict)
        scalars |= {f"iou/{name}": iou for name, iou in ious.items() if iou is not None}
        self._tensorboard.write_scalars(step, scalars)
        self._tensorboard.write_images(step, pictures)
        self._tensorboard.flush()


def _drop_lines_after(path: pathlib.Path, step: int) -> None:
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
