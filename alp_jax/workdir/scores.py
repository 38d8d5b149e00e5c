"""Reads the scores that evaluations left in a workdir.

Synopsis:

  summary = read_summary(workdir, 500, config.evaluation)
"""

import json
import pathlib
from typing import Any

import ml_collections

from alp_jax.devices import processes
from alp_jax.errors import UserError, describe

FOLDER = "evaluation"


def summary_path(workdir: pathlib.Path, step: int) -> pathlib.Path:
    """Returns the file of a step's scores on the run's own evaluation split."""
    return workdir / FOLDER / f"step_{step}.json"


def read_mean_iou(workdir: pathlib.Path, step: int) -> float | None:
    """Reads the mean IoU of a step on the run's own split; None where it was not scored.

    Raises:
      UserError: if the file is damaged.
    """
    path = summary_path(workdir, step)
    try:
        score: float | None = json.loads(path.read_text())["mean_iou"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({describe(error)}): expected the scores that training "
            "wrote; remove that file, and evaluate that checkpoint again."
        ) from error
    return score


def read_summary(
    workdir: pathlib.Path, step: int, evaluation: ml_collections.ConfigDict
) -> dict[str, Any] | None:
    """Reads the scores of a step on the dataset and split of `config.evaluation`, or None."""
    path = summary_path(workdir, step)
    if not path.exists():
        return None
    summary = json.loads(path.read_text())
    same = (summary["dataset"], summary["split"]) == (evaluation.dataset, evaluation.split)
    return summary if same else None


def lacks_summary(workdir: pathlib.Path, step: int, evaluation: ml_collections.ConfigDict) -> bool:
    """Whether a step has not been evaluated; of many processes all get the same answer."""
    found = processes.from_primary(lambda: int(read_summary(workdir, step, evaluation) is None))
    return bool(found)


def read_summaries(
    workdir: pathlib.Path, run_config: ml_collections.ConfigDict
) -> list[dict[str, Any]]:
    """Reads the scores of all steps that training evaluated, in order."""
    evaluation = run_config.evaluation
    own = (evaluation.dataset, evaluation.split)
    summaries = [json.loads(path.read_text()) for path in (workdir / FOLDER).glob("step_*.json")]
    ours = {s["step"]: s for s in summaries if (s["dataset"], s["split"]) == own}
    return [ours[step] for step in sorted(ours) if step <= run_config.num_steps]
