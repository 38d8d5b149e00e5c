"""Reads what finished runs left in their workdirs.

Synopsis:

  runs = read_runs({"source-only": pathlib.Path("runs/source_only")})
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from alp_jax.data.labels import LabelSet
from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator
from alp_jax.settings.compare import flatten
from alp_jax.settings.schema import to_config
from alp_jax.workdir import classes, config, scores, writers
from alp_jax.workdir.settings import RunSettings


@dataclasses.dataclass(frozen=True)
class ReportRun:
    """One run.

    Attributes:
      name: that the report calls it by.
      workdir: of the run.
      settings: that it was trained with.
      scalars: the lines of metrics.jsonl.
      evaluations: summaries while training, step 0 first.
    """

    name: str
    workdir: pathlib.Path
    settings: RunSettings
    scalars: tuple[dict[str, Any], ...]
    evaluations: tuple[dict[str, Any], ...]

    @property
    def label_set(self) -> LabelSet:
        """The classes."""
        return classes.load(self.workdir, self.settings.data.label_set)

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
            ours, first = (flatten(to_config(r.settings))[name] for r in (run, runs[0]))
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
    settings = config.load(workdir)
    path = workdir / writers.FILE_NAME
    lines = path.read_text().splitlines() if path.exists() else []
    try:
        scalars = tuple(json.loads(line) for line in lines)
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}): expected the lines that training wrote; resume the run, "
            "or remove that file and its curves."
        ) from error
    evaluations = tuple(
        scores.read_summaries(workdir, settings.evaluation, last_step=settings.num_steps)
    )
    return ReportRun(name, workdir, settings, scalars, evaluations)
