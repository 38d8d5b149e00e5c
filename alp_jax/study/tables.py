"""Formats a study's scores as tables of text, in the layout of the paper's Tables 3 and 4.

Synopsis:

  heads, rows = score_table(study)
"""

import csv
import io
from collections.abc import Callable

from alp_jax.data.labels import CITYSCAPES_ID_BY_NAME, list_label_sets
from alp_jax.evaluation import label_free
from alp_jax.evaluation.metrics import MEAN_IOU, name_means
from alp_jax.study import criteria, published_tables, selection, statistics
from alp_jax.study.scores import RunScores, Study, Summary, describe_value

LAST_EVALUATIONS = 10

Rows = list[list[str]]

DIFFERENCE_HEADS = [
    "difference in mIoU",
    "mean ± std",
    "95 % bootstrap",
    "95 % Student's t",
    "seeds above 0",
]

# Class name of Cityscapes -> head of the column in the paper.
_SHORT_NAMES = {
    "sidewalk": "SW",
    "building": "Build",
    "traffic light": "TL",
    "traffic sign": "TS",
    "vegetation": "Veg.",
    "person": "PR",
    "motorcycle": "Motor",
    "bicycle": "Bike",
}


def to_csv(study: Study) -> str:
    """Formats one row for each run and kind of score, in percent: last, best, and last_10_mean.

    `best` was chosen with target labels; `last_10_mean` is on the evaluation split, and is called
    last_2_mean, say, in a run with fewer evaluations.
    """
    about = study.about
    names = about.classes
    means = list_means(study)
    head = ["method", about.sweep_field or "value", "seed", "kind", "split", "step"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, *means, *names, *label_free.CRITERIA])
    for run in study.runs:
        value = "" if run.value is None else describe_value(run.value)
        averaged = f"last_{count_averaged(run)}_mean"
        summaries = {"last": run.last, "best": run.best, averaged: _average(run)}
        for kind, summary in summaries.items():
            if summary is None:
                continue
            scores = [summary[mean] for mean in means]
            scores += [summary["iou_per_class"][name] for name in names]
            cells = ["" if score is None else f"{100 * score:.4f}" for score in scores]
            others = [summary.get(name) for name in label_free.CRITERIA]
            cells += ["" if other is None else f"{other:.6f}" for other in others]
            writer.writerow(
                [run.method, value, run.seed, kind, summary["split"], summary["step"], *cells]
            )
    return text.getvalue()


def list_means(study: Study) -> dict[str, str]:
    """Names the mean IoU and the means over some of the classes: key -> head of a column."""
    shown = (MEAN_IOU, *study.about.reports)
    named = name_means(key for key in study.runs[0].last if key in shown)
    return {key: name.replace("mean IoU", "mIoU") for key, name in named.items()}


def count_averaged(run: RunScores) -> int:
    """Counts the last evaluations of a run that are averaged: LAST_EVALUATIONS, or all it has."""
    return len(run.history(LAST_EVALUATIONS))


def _average(run: RunScores) -> Summary | None:
    """Averages the last evaluations of a run; a score that one of them lacks is None."""
    history = run.history(LAST_EVALUATIONS)
    if not history:
        return None

    def mean(values: list[float | None]) -> float | None:
        defined = [value for value in values if value is not None]
        return sum(defined) / len(defined) if len(defined) == len(values) else None

    last = history[-1]
    numbers = [name for name in (*name_means(last), *label_free.CRITERIA) if name in last]
    return {
        "step": last["step"],
        "split": last["split"],
        **{name: mean([summary.get(name) for summary in history]) for name in numbers},
        "iou_per_class": {
            name: mean([summary["iou_per_class"][name] for summary in history])
            for name in last["iou_per_class"]
        },
    }


def score_table(
    study: Study,
    pick: Callable[[RunScores], Summary | None] = lambda run: run.last,
    *,
    digits: int = 1,
) -> tuple[list[str], Rows]:
    """Creates a table like Tables 3 and 4: a row per setting, a column per mean and class.

    Args:
      study: a study with at least one run.
      pick: selects the summary of a run to show; runs without it are left out.
      digits: digits after the point.
    Returns:
      (heads, rows) of text: mean ± standard deviation over seeds, in percent.
    """
    names, means = study.about.classes, list_means(study)
    heads = ["method", "seeds", *means.values(), *class_heads(study)]
    rows = []
    for setting, runs in study.by_setting().items():
        summaries = [summary for run in runs if (summary := pick(run)) is not None]
        columns = [[summary[mean] for summary in summaries] for mean in means]
        columns += [[summary["iou_per_class"][name] for summary in summaries] for name in names]
        cells = [statistics.format_percent(column, digits) for column in columns]
        rows.append([setting, str(len(summaries)), *cells])
    return heads, rows


def history_table(study: Study) -> tuple[list[str], Rows]:
    """Creates the score table of each run's mean last evaluations, and mIoU's spread in them."""
    heads, rows = score_table(study, _average)
    heads.insert(2, "std within a run")
    settings = study.by_setting()
    for row in rows:
        deviations = [
            statistics.mean_and_std(values)[1]
            for run in settings[row[0]]
            if None not in (values := [s["mean_iou"] for s in run.history(LAST_EVALUATIONS)])
            and len(values) > 1
        ]
        row.insert(2, statistics.format_percent(deviations, 2).partition(" ")[0])
    return heads, rows


def relative_row(study: Study) -> list[str] | None:
    """Creates the paper's last row: last setting minus first, on the seeds that both have.

    A study that says what it compares has no such row.
    """
    settings = study.by_setting()
    if len(settings) < 2 or study.about.compared is not None:
        return None
    first, *_, last = settings
    theirs = {run.seed: run.last for run in settings[first]}
    pairs = [(run.last, theirs[run.seed]) for run in settings[last] if run.seed in theirs]
    if not pairs:
        return None
    names, means = study.about.classes, list_means(study)
    columns = [[_subtract(ours[m], other[m]) for ours, other in pairs] for m in means]
    columns += [
        [_subtract(ours["iou_per_class"][n], other["iou_per_class"][n]) for ours, other in pairs]
        for n in names
    ]
    cells = [statistics.format_percent(column) for column in columns]
    return [f"{last} minus {first}", str(len(pairs)), *cells]


def _subtract(ours: float | None, other: float | None) -> float | None:
    return None if ours is None or other is None else ours - other


def class_heads(study: Study) -> list[str]:
    """Names the columns of the classes: as in the paper, or as the user's label set does."""
    names = study.about.classes
    if study.about.label_set in list_label_sets() and set(names) <= set(CITYSCAPES_ID_BY_NAME):
        return [_SHORT_NAMES.get(name, name.capitalize()) for name in names]
    return list(names)


def difference_table(study: Study) -> tuple[list[str], Rows]:
    """Creates the table of `statistics.paired_differences` in mean IoU, in points."""
    found = statistics.paired_differences(study)
    return DIFFERENCE_HEADS, [difference_row(difference) for difference in found]


def choice_tables(study: Study) -> tuple[tuple[list[str], Rows], tuple[list[str], Rows]]:
    """Creates the tables of best against best: the choices of each method, and their scores.

    Returns:
      (the choices by each rule, the paired differences of every two methods at their own choices).
    """
    heads = ["chosen by", "method", "value", f"mIoU, {study.about.evaluation_split}"]
    heads.append(f"mIoU, {study.about.reported_split}")
    rows: Rows = []
    differences: Rows = []
    for rule in selection.RULES:
        choices = selection.choose(study, rule)
        for choice in choices:
            if choice.value is not None:
                validation = [run.history(1)[0]["mean_iou"] for run in choice.runs]
                scores = [run.last["mean_iou"] for run in choice.runs]
                cells = [statistics.format_percent(column) for column in (validation, scores)]
                rows.append([_rule_name(rule), choice.method, describe_value(choice.value), *cells])
        for difference in selection.compare_choices(choices):
            differences.append([_rule_name(rule), *difference_row(difference)])
    return (heads, rows), (["chosen by", *DIFFERENCE_HEADS], differences)


def _rule_name(rule: str) -> str:
    return "mean IoU (target labels)" if rule == selection.LABELS else rule.replace("_", " ")


def difference_row(found: statistics.PairedDifference) -> list[str]:
    """Formats a paired difference under DIFFERENCE_HEADS, in points."""
    above = sum(difference > 0 for difference in found.differences)
    return [
        f"{found.first} minus {found.second}",
        statistics.format_percent(found.differences, 2),
        statistics.format_interval(found.bootstrap),
        statistics.format_interval(found.student),
        f"{above} of {len(found.differences)}",
    ]


def criterion_table(study: Study) -> tuple[list[str], Rows]:
    """Creates the table of how well label-free criteria rank checkpoints and settings."""
    heads = ["criterion", "rank correlation over steps", "over settings", "regret, points of mIoU"]
    rows = []
    for ranking in criteria.rank_criteria(study):
        name = ranking.criterion.replace("_", " ")
        cells = [_plus_minus(ranking.over_steps, 1), _plus_minus(ranking.over_settings, 1)]
        rows.append([name, *cells, _plus_minus(ranking.regret, 100)])
    return heads, rows


def _plus_minus(value: tuple[float, float | None] | None, scale: int) -> str:
    if value is None:
        return "-"
    mean, std = value
    text = f"{scale * mean:z.2f}"
    return text if std is None else f"{text} ± {scale * std:.2f}"


def published_table(study: Study) -> tuple[list[str], Rows]:
    """Creates the table of the paper's rows for the study's task, in percent as printed.

    A task that is not in the paper has no rows.
    """
    names = study.about.classes
    task = published_tables.task_of(study.about.source, label_set=study.about.label_set)
    rows = []
    for row in published_tables.published_rows(task):
        numbers = [row.mean_iou, row.mean_iou_13, *(row.iou_per_class[name] for name in names)]
        cells = ["-" if number is None else f"{number:g}" for number in numbers]
        rows.append([str(row.table), row.method, *cells])
    return ["table", "method", "mIoU", "mIoU-13", *class_heads(study)], rows
