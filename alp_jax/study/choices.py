"""Chooses among the candidates of a method, by mean IoU on the evaluation split.

Synopsis:

  choice = choose("minent", candidates, runs)     # choice.fields, choice.scores

The mean IoU uses target labels: a number that is quoted with such a choice must say so.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alp_jax.errors import UserError
from alp_jax.study.experiment import Experiment, Fields
from alp_jax.study.scores import RunScores


@dataclasses.dataclass(frozen=True)
class Choice:
    """What one method chose.

    Attributes:
      fields: all fields that its runs set: the base's, and the chosen candidate's.
      candidates: fields of each candidate, in order; empty: it had nothing to choose.
      scores: mean IoU on the evaluation split of each candidate, by tuning seed; NaN for a run that
        diverged.
      chosen: index of the candidate.
    """

    fields: Fields
    candidates: tuple[Fields, ...] = ()
    scores: tuple[tuple[float, ...], ...] = ()
    chosen: int | None = None


def choose(name: str, candidates: list[Fields], runs: list[list[RunScores]]) -> Choice:
    """Chooses the candidate with the highest mean over seeds; the first of equal ones.

    A candidate with a run that diverged is not chosen.

    Args:
      name: name of the method.
      candidates: fields of each candidate.
      runs: scores of each candidate's runs, by tuning seed.
    Raises:
      UserError: if a run has no mean IoU on its evaluation split, or all candidates diverged.
    """
    scores = [tuple(_read_score(name, found) for found in row) for row in runs]
    means = [float(np.mean(row)) for row in scores]
    if np.isnan(means).all():
        reason = next(found.diverged for row in runs for found in row if found.diverged)
        raise UserError(
            f"All candidates of {name} diverged: expected one whose losses stay finite. {reason}"
        )
    chosen = int(np.nanargmax(means))
    return Choice(candidates[chosen], tuple(candidates), tuple(scores), chosen)


def _read_score(name: str, scores: RunScores) -> float:
    if scores.diverged:
        return float("nan")
    history = scores.history(1)
    score: float | None = history[0]["mean_iou"] if history else None
    if score is None:
        raise UserError(
            f"{name} has no mean IoU to choose by: expected an evaluation split with labels "
            "(config.evaluation)."
        )
    return score


def _to_json(scores: Sequence[float]) -> list[float | str]:
    return ["diverged" if np.isnan(score) else score for score in scores]


def describe(experiment: Experiment, choices: Mapping[str, Choice]) -> dict[str, Any]:
    """Describes what was chosen and by which score, for JSON."""
    ordered = {e.name: choices[e.name] for e in experiment.entries if e.name in choices}
    return {
        "score": "mean IoU on the evaluation split after the last step, so with target labels",
        "seeds": list(experiment.tuning_seeds),
        "methods": {
            name: {
                "fields": dict(choice.fields),
                "candidates": [
                    {"fields": dict(fields), "mean_iou": _to_json(scores)}
                    for fields, scores in zip(choice.candidates, choice.scores, strict=True)
                ],
                "chosen": choice.chosen,
            }
            for name, choice in ordered.items()
        },
    }
