"""Reads the scores that evaluations left in a workdir.

Synopsis:

  summary = read_summary(workdir, 500, config.evaluation)
"""

import dataclasses
import json
import pathlib
from typing import Any

from alp_jax.devices import processes
from alp_jax.errors import UserError, describe
from alp_jax.settings.schema import setting

FOLDER = "evaluation"


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """What is scored, and when."""

    OPERATIONAL = True

    dataset: str = setting("cityscapes/labelled", "Scored; without labels: entropy, pictures.")
    split: str = setting("validation", 'That training evaluates, and chooses "best" by.')
    reported_split: str = setting("", "That a study scores at the end; empty: the same as split.")
    batch_size: int = setting(1, "Images at a time.", at_least=1)
    every_steps: int = setting(
        2_000, "Evaluate and save a checkpoint; also at the last step.", at_least=1
    )
    num_sheet_images: int = setting(6, "Rows of the sheet of pictures.", at_least=1)


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
    workdir: pathlib.Path, step: int, evaluation: EvaluationSettings
) -> dict[str, Any] | None:
    """Reads the scores of a step on the dataset and split of `config.evaluation`, or None."""
    path = summary_path(workdir, step)
    if not path.exists():
        return None
    summary = json.loads(path.read_text())
    same = (summary["dataset"], summary["split"]) == (evaluation.dataset, evaluation.split)
    return summary if same else None


def lacks_summary(workdir: pathlib.Path, step: int, evaluation: EvaluationSettings) -> bool:
    """Whether a step has not been evaluated; of many processes all get the same answer."""
    found = processes.from_primary(lambda: int(read_summary(workdir, step, evaluation) is None))
    return bool(found)


def read_summaries(
    workdir: pathlib.Path, evaluation: EvaluationSettings, *, last_step: int
) -> list[dict[str, Any]]:
    """Reads the scores of all steps up to the last that training evaluated, in order."""
    own = (evaluation.dataset, evaluation.split)
    summaries = [json.loads(path.read_text()) for path in (workdir / FOLDER).glob("step_*.json")]
    ours = {s["step"]: s for s in summaries if (s["dataset"], s["split"]) == own}
    return [ours[step] for step in sorted(ours) if step <= last_step]
