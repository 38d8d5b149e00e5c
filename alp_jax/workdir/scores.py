"""Reads the scores of evaluations from a workdir.

Synopsis:

  summary = read_summary(workdir, 500, config.evaluation)
"""

import dataclasses
import pathlib
import re
from typing import Any

from alp_jax.devices import processes
from alp_jax.errors import UserError, describe
from alp_jax.settings.schema import setting
from alp_jax.workdir import files

FOLDER = "evaluation"
_OWN = re.compile(r"step_\d+\.json")


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """Dataset, split and times of evaluations."""

    OPERATIONAL = True

    dataset: str = setting(
        "cityscapes/labelled",
        "Dataset that is scored; one without labels gives entropy and pictures.",
    )
    split: str = setting(
        "validation", 'Split that training evaluates, and that the "best" checkpoint is chosen by.'
    )
    reported_split: str = setting(
        "", "Split that a study scores at the end; empty: the same as split."
    )
    batch_size: int = setting(1, "Images in a batch.", at_least=1)
    every_steps: int = setting(
        2_000,
        "Steps between evaluations, each with a checkpoint; the last step is evaluated, too.",
        at_least=1,
    )
    num_sheet_images: int = setting(6, "Rows of the sheet of pictures.", at_least=1)


def summary_path(workdir: pathlib.Path, step: int) -> pathlib.Path:
    """Returns the file of a step's scores on the run's own evaluation split."""
    return workdir / FOLDER / f"step_{step}.json"


def read_mean_iou(workdir: pathlib.Path, step: int) -> float | None:
    """Reads the mean IoU of a step on the run's own split; None if it was not scored.

    Raises:
      UserError: if the file is damaged.
    """
    path = summary_path(workdir, step)
    try:
        score: float | None = files.from_json(path.read_text())["mean_iou"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({describe(error)}): expected the scores that training "
            "wrote; remove that file, and evaluate that checkpoint again."
        ) from error
    return score


def explain_no_best(workdir: pathlib.Path) -> str:
    """Explains, in brackets, why no checkpoint has a mean IoU by which it could be the best."""
    path = next((p for p in (workdir / FOLDER).glob("step_*.json") if _OWN.fullmatch(p.name)), None)
    if path is None:
        return " (the best has the highest mean IoU in an evaluation, and none was evaluated)"
    dataset = files.from_json(path.read_text()).get("dataset")
    return (
        " (the best has the highest mean IoU, and the run was evaluated on "
        f"{dataset}, which has no labels to score by)"
    )


def read_summary(
    workdir: pathlib.Path, step: int, evaluation: EvaluationSettings
) -> dict[str, Any] | None:
    """Reads a step's scores on the dataset and split of `config.evaluation`; None without."""
    path = summary_path(workdir, step)
    if not path.exists():
        return None
    summary = files.from_json(path.read_text())
    same = (summary["dataset"], summary["split"]) == (evaluation.dataset, evaluation.split)
    return summary if same else None


def lacks_summary(workdir: pathlib.Path, step: int, evaluation: EvaluationSettings) -> bool:
    """Returns whether a step has not been evaluated; all processes get the same answer."""
    found = processes.from_primary(lambda: int(read_summary(workdir, step, evaluation) is None))
    return bool(found)


def read_summaries(
    workdir: pathlib.Path, evaluation: EvaluationSettings, *, last_step: int
) -> list[dict[str, Any]]:
    """Reads the scores of all evaluated steps up to `last_step`, in order."""
    own = (evaluation.dataset, evaluation.split)
    # Files of averaged predictions and of other splits have longer names.
    paths = [p for p in (workdir / FOLDER).glob("step_*.json") if _OWN.fullmatch(p.name)]
    summaries = [files.from_json(path.read_text()) for path in paths]
    ours = {s["step"]: s for s in summaries if (s["dataset"], s["split"]) == own}
    return [ours[step] for step in sorted(ours) if step <= last_step]
