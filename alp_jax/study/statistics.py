"""Computes means over seeds, and differences between settings with intervals, paired by seed.

Synopsis:

  mean, std = mean_and_std([0.31, 0.33])
  for difference in paired_differences(study): ...
"""

import dataclasses
import itertools
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from alp_jax.study.scores import RunScores, Study

CONFIDENCE = 0.95
_RESAMPLES = 10_000

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Scores of a first setting minus scores of a second, on the seeds that both have.

    Runs of a seed share their start and the order of the source images, so differences spread less
    than scores.

    Attributes:
      first, second: names of the settings.
      differences: difference for each seed, in the unit of the scores.
      mean, std: mean and standard deviation (ddof 1) of the differences; std is None for one seed.
      bootstrap: BCa interval of the mean; None for fewer than two seeds. With few seeds it is
        somewhat too narrow.
      student: Student's t interval of the mean, which assumes normal differences; None for fewer
        than two seeds.
    """

    first: str
    second: str
    differences: tuple[float, ...]
    mean: float
    std: float | None
    bootstrap: Interval | None
    student: Interval | None


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Computes the mean and the standard deviation (ddof 1; None for one value)."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), std


def format_percent(values: Sequence[float | None], digits: int = 1) -> str:
    """Formats mean ± standard deviation of values in [0, 1], in percent; "-" without values."""
    defined = [value for value in values if value is not None]
    if not defined:
        return "-"
    mean, std = mean_and_std(defined)
    text = f"{100 * mean:z.{digits}f}"  # z: no minus before a zero.
    return text if std is None else f"{text} ± {100 * std:.{digits}f}"


def format_interval(interval: Interval | None) -> str:
    """Formats an interval of differences in [-1, 1], in percent with signs."""
    if interval is None:
        return "one seed: none"
    return f"{100 * interval[0]:+z.2f} to {100 * interval[1]:+z.2f}"


def paired_differences(study: Study, score: str = "mean_iou") -> list[PairedDifference]:
    """Compares the settings that a study compares, or every two of them.

    Of every two, the later one in the tables is the first of a difference.

    Args:
      study: a study with the scores of the last step.
      score: name of a number in a summary.
    Returns:
      one difference for each two of these that both have the score for some seed.
    """
    settings = study.by_setting()
    pairs: Iterable[tuple[str, str]]
    if study.about.compared is None:
        pairs = ((first, second) for second, first in itertools.combinations(settings, 2))
    else:
        pairs = (pair for pair in study.about.compared if settings.keys() >= set(pair))
    found = (
        compare_runs(first, settings[first], second, settings[second], score)
        for first, second in pairs
    )
    return [difference for difference in found if difference is not None]


def compare_runs(
    first: str,
    first_runs: Sequence[RunScores],
    second: str,
    second_runs: Sequence[RunScores],
    score: str = "mean_iou",
) -> PairedDifference | None:
    """Compares the runs of two settings on the seeds that both have; None without such seeds."""
    found = differences_by_seed(first_runs, second_runs, score)
    return compare(first, second, tuple(found.values())) if found else None


def differences_by_seed(
    first_runs: Sequence[RunScores], second_runs: Sequence[RunScores], score: str = "mean_iou"
) -> dict[int, float]:
    """Subtracts the second setting's score from the first's: seed -> difference, by seed."""
    ours, theirs = (_by_seed(runs, score) for runs in (first_runs, second_runs))
    return {seed: ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())}


def compare(first: str, second: str, differences: tuple[float, ...]) -> PairedDifference:
    """Computes statistics of the differences between two settings, one for each seed."""
    mean, std = mean_and_std(differences)
    bootstrap = student = None
    if std is not None:
        bootstrap = _bootstrap(differences)
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * std
        half /= float(np.sqrt(len(differences)))
        student = (mean - half, mean + half)
    return PairedDifference(first, second, differences, mean, std, bootstrap, student)


def _by_seed(runs: Sequence[RunScores], score: str) -> dict[int, float]:
    return {run.seed: run.last[score] for run in runs if run.last.get(score) is not None}


def _bootstrap(differences: tuple[float, ...]) -> Interval:
    """Computes Efron's BCa interval; if that is undefined, the percentile interval."""
    if np.ptp(differences) == 0:
        return differences[0], differences[0]
    low, high = _interval(differences, "BCa")
    if np.isnan(low) or np.isnan(high):
        low, high = _interval(differences, "percentile")
    return float(low), float(high)


def _interval(differences: tuple[float, ...], method: str) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (np.asarray(differences),),
            np.mean,
            confidence_level=CONFIDENCE,
            n_resamples=_RESAMPLES,
            method=method,
            rng=np.random.default_rng(0),
        )
    return result.confidence_interval.low, result.confidence_interval.high
