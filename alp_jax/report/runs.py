"""Reads settings, logs and scores of finished runs from their workdirs.

Synopsis:

  runs = read_runs({"source-only": pathlib.Path("runs/source_only")})
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from alp_jax.data.labels import LabelSet
from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator
from alp_jax.settings.compare import flatten
from alp_jax.settings.schema import to_config
from alp_jax.workdir import classes, config, files, scores, writers
from alp_jax.workdir.settings import RunSettings


@dataclasses.dataclass(frozen=True)
class ReportRun:
    """One run.

    Attributes:
      name: name in the report.
      workdir: folder of the run.
      settings: settings of its training.
      scalars: the lines of metrics.jsonl.
      evaluations: summaries of the evaluations during training, step 0 first.
    """

    name: str
    workdir: pathlib.Path
    settings: RunSettings
    scalars: tuple[dict[str, Any], ...]
    evaluations: tuple[dict[str, Any], ...]

    @property
    def label_set(self) -> LabelSet:
        """Classes of the run."""
        return classes.load(self.workdir, self.settings.data.label_set)

    def score(self, split: str) -> tuple[dict[str, Any], np.ndarray]:
        """Evaluates the last checkpoint on a split and saves the result.

        Returns:
          (summary, confusion).
        Raises:
          UserError: if there is no checkpoint, or the split does not exist.
        """
        result = evaluator.evaluate_checkpoint(
            self.workdir, None, checkpoint_name="latest", split=split
        )
        result.save(self.workdir)
        return result.summary, result.confusion


def read_runs(workdirs: Mapping[str, pathlib.Path]) -> list[ReportRun]:
    """Reads runs, and checks that they can be compared.

    Args:
      workdirs: name of a run -> its workdir.
    Raises:
      UserError: if a workdir holds no run, or the runs differ in classes or datasets.
    """
    runs = [_read(name, workdir) for name, workdir in workdirs.items()]
    for run in runs[1:]:
        for name in ("data.label_set", "evaluation.dataset", "data.source"):
            ours, first = (flatten(to_config(r.settings))[name] for r in (run, runs[0]))
            same = ours == first
            if name == "data.label_set":  # Equal files may have different paths, or one changed.
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
        scalars = tuple(files.from_json(line) for line in lines)
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}): expected the lines that training wrote; resume the run, "
            "or remove that file and its curves."
        ) from error
    evaluations = tuple(
        scores.read_summaries(workdir, settings.evaluation, last_step=settings.num_steps)
    )
    return ReportRun(name, workdir, settings, scalars, evaluations)
