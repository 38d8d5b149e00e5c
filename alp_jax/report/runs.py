"""Reads what finished runs left in their workdirs.

Synopsis:

  runs = read_runs({"source-only": pathlib.Path("runs/source_only")})
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from alp_jax.data.labels import LabelSet
from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator
from alp_jax.workdir import classes, config, scores, writers


@dataclasses.dataclass(frozen=True)
class ReportRun:
    """One run.

    Attributes:
      name: that the report calls it by.
      workdir: of the run.
      config: it was trained with.
      scalars: the lines of metrics.jsonl.
      evaluations: summaries while training, step 0 first.
    """

    name: str
    workdir: pathlib.Path
    config: ml_collections.ConfigDict
    scalars: tuple[dict[str, Any], ...]
    evaluations: tuple[dict[str, Any], ...]

    @property
    def label_set(self) -> LabelSet:
        """The classes."""
        return classes.load(self.workdir, self.config.data.label_set)

    def score(self, split: str) -> tuple[dict[str, Any], np.ndarray]:
        """Summary and confusion of the last checkpoint on a split, evaluated if need be.

        Raises:
          UserError: if there is no checkpoint, or no such split.
        """
        result = evaluator.evaluate_checkpoint(
            self.workdir, None, checkpoint_name="latest", split=split
        )
        result.save(self.workdir)
        return result.summary, result.confusion


def read_runs(workdirs: Mapping[str, pathlib.Path]) -> list[ReportRun]:
    """Reads runs that can be compared, by name.

    Raises:
      UserError: if a workdir holds no run, or the runs have other classes or evaluation datasets.
    """
    runs = [_read(name, workdir) for name, workdir in workdirs.items()]
    for run in runs[1:]:
        for name in ("data.label_set", "evaluation.dataset", "data.source"):
            ours, first = (config.flatten(r.config)[name] for r in (run, runs[0]))
            same = ours == first
            if name == "data.label_set":  # A file may have another path, or other content.
                same = run.label_set.classes == runs[0].label_set.classes
            if not same:
                raise UserError(
                    f"{run.workdir} has config.{name} {ours!r} and {runs[0].workdir} {first!r}: "
                    "expected the same, to compare them; make a report of each."
                )
    return runs


def _read(name: str, workdir: pathlib.Path) -> ReportRun:
    run_config = config.load(workdir)
    path = workdir / writers.FILE_NAME
    lines = path.read_text().splitlines() if path.exists() else []
    try:
        scalars = tuple(json.loads(line) for line in lines)
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}): expected the lines that training wrote; resume the run, "
            "or remove that file and its curves."
        ) from error
    evaluations = tuple(scores.read_summaries(workdir, run_config))
    return ReportRun(name, workdir, run_config, scalars, evaluations)
