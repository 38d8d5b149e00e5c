"""Measures how well label-free criteria choose between checkpoints and between settings.

Synopsis:

  for ranking in rank_criteria(study): print(ranking.criterion, ranking.over_steps)

This is an analysis: it compares the criteria with mean IoU on the evaluation split, and so uses
target labels.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from alp_jax.evaluation.label_free import SIGNS
from alp_jax.study.scores import Study, Summary
from alp_jax.study.statistics import mean_and_std

LAST_STEP = "last_step"

MeanStd = tuple[float, float | None]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """Ranking quality of one criterion; taking the last step is a criterion, too.

    Attributes:
      criterion: name in a summary, or LAST_STEP.
      over_steps: Spearman correlation with mean IoU over the evaluations of a run; mean and
        standard deviation over runs. 1 ranks as mean IoU does, 0 not at all.
      over_settings: the same correlation over the last steps of all settings of a seed; mean and
        standard deviation over seeds.
      regret: mean IoU of a run's best evaluation minus the mean IoU of the evaluation that the
        criterion picks, in [0, 1]; mean and standard deviation over runs.
      num_runs: number of runs in `regret`. Runs with undefined scores are left out; `over_steps`
        also leaves out runs with equal scores.
      num_seeds: number of seeds in `over_settings`. Seeds with undefined or equal scores are left
        out.
    """

    criterion: str
    over_steps: MeanStd | None
    over_settings: MeanStd | None
    regret: MeanStd | None
    num_runs: int
    num_seeds: int


def rank_criteria(study: Study) -> list[Ranking]:
    """Measures the ranking quality of every criterion, and of taking the last step."""
    # An ensemble has one evaluation, so that there is nothing to choose from.
    trained = [run for run in study.runs if not run.members]
    histories = [run.history(len(run.evaluations)) for run in trained]
    seeds = sorted({run.seed for run in study.runs})
    finals = [
        [run.history(1)[0] for run in study.runs if run.seed == seed and run.history(1)]
        for seed in seeds
    ]
    rankings = []
    for criterion, sign in {**SIGNS, LAST_STEP: 1}.items():
        name = "step" if criterion == LAST_STEP else criterion
        steps = _defined(_correlation(history, name, sign) for history in histories)
        settings = _defined(_correlation(final, name, sign) for final in finals)
        regrets = _defined(_regret(history, name, sign) for history in histories)
        rankings.append(
            Ranking(
                criterion,
                mean_and_std(steps) if steps else None,
                mean_and_std(settings) if settings else None,
                mean_and_std(regrets) if regrets else None,
                num_runs=len(regrets),
                num_seeds=len(settings),
            )
        )
    return rankings


def _defined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _columns(summaries: Sequence[Summary], name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the criterion and mean IoU of all summaries; None if a summary lacks either."""
    pairs = [(summary.get(name), summary["mean_iou"]) for summary in summaries]
    if any(value is None for pair in pairs for value in pair):
        return None
    values = np.array(pairs, np.float64).reshape(-1, 2)
    return values[:, 0], values[:, 1]


def _correlation(summaries: Sequence[Summary], name: str, sign: int) -> float | None:
    columns = _columns(summaries, name)
    if columns is None or any(len(np.unique(column)) < 2 for column in columns):
        return None
    return float(sign * stats.spearmanr(*columns).statistic)


def _regret(summaries: Sequence[Summary], name: str, sign: int) -> float | None:
    columns = _columns(summaries, name)
    if columns is None or len(columns[0]) == 0:
        return None
    values, mean_ious = columns
    return float(mean_ious.max() - mean_ious[np.argmax(sign * values)])
