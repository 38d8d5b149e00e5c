"""Compares best against best: each method at its own best value of the swept field.

Synopsis:

  for rule in RULES:
      choices = choose(study, rule)               # one for each method
      differences = compare_choices(choices)      # on the reported split, paired by seed

A value is chosen on the evaluation split, by the mean over all seeds of the last evaluation: with
target labels if the rule is mean IoU, without labels if it is in `label_free.CRITERIA`.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from alp_jax.evaluation import label_free
from alp_jax.study.scores import RunScores, Study
from alp_jax.study.statistics import PairedDifference, compare_runs

LABELS = "mean_iou"
# Name in a summary -> 1 if higher is better, -1 if lower is.
RULES = {LABELS: 1, **label_free.SIGNS}


@dataclasses.dataclass(frozen=True)
class Choice:
    """Choice of one method by one rule.

    Attributes:
      method: variant of the configuration.
      value: value of the swept field; None for a method that does not use it.
      evaluated: mean of the rule's number over seeds, on the evaluation split.
      runs: runs with that value, by seed.
    """

    method: str
    value: Any
    evaluated: float
    runs: Sequence[RunScores]


def choose(study: Study, rule: str) -> list[Choice]:
    """Chooses a value for each method.

    Args:
      study: a study with a swept field.
      rule: one of RULES.
    Returns:
      one choice for each method, in the order of the tables. A value is only considered if all its
      runs have the rule's number; a method without such a value is left out.
    """
    found: dict[str, list[Choice]] = {}
    for runs in study.by_setting().values():
        values = [run.history(1)[0].get(rule) for run in runs if run.history(1)]
        method, value = runs[0].method, runs[0].value
        defined = [number for number in values if number is not None]
        choices = found.setdefault(method, [])
        if len(defined) == len(runs):
            choices.append(Choice(method, value, float(np.mean(defined)), runs))
    sign = RULES[rule]
    return [
        max(choices, key=lambda choice: sign * choice.evaluated)
        for choices in found.values()
        if choices
    ]


def compare_choices(choices: Sequence[Choice]) -> list[PairedDifference]:
    """Compares the scores of every two methods at their own values, the later method first."""
    found = (
        compare_runs(first.method, first.runs, second.method, second.runs)
        for second, first in itertools.combinations(choices, 2)
    )
    return [difference for difference in found if difference is not None]
