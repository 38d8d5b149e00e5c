"""Writes a study's scores as CSV, Markdown and LaTeX, in the layout of the paper's Tables 3 and 4.

Synopsis:

  save(study, workdir)     # study.csv, study.md, study.tex
"""

import csv
import io
import pathlib
from collections.abc import Callable

from alp_jax import files
from alp_jax.data.labels import LABEL_SETS
from alp_jax.metrics import MEANS
from alp_jax.study import criteria, markup, published_tables, statistics
from alp_jax.study.scores import RunScores, Study, Summary, describe_value

STEM = "study"
LAST_EVALUATIONS = 10

Rows = list[list[str]]

DIFFERENCES_NOTE = (
    "Runs with the same seed start from the same weights and see the same source images. With few "
    "seeds the bootstrap interval (BCa) is somewhat too narrow; Student's is beside it."
)

# The paper's heads of columns.
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


def save(study: Study, workdir: pathlib.Path) -> None:
    """Writes all three files; expects at least one run."""
    files.write_text(workdir / f"{STEM}.csv", to_csv(study))
    files.write_text(workdir / f"{STEM}.md", to_markdown(study))
    files.write_text(workdir / f"{STEM}.tex", to_latex(study))


def to_csv(study: Study) -> str:
    """One row for each run and kind of score, in percent: last, best, and last_10_mean.

    `best` was chosen with target labels; `last_10_mean` is of the evaluation split.
    """
    about = study.about
    names = LABEL_SETS[about.num_classes].names
    means = _means(study)
    head = ["method", about.sweep_field or "value", "seed", "kind", "split", "step"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, *means, *names, *criteria.CRITERIA])
    for run in study.runs:
        value = "" if run.value is None else describe_value(run.value)
        summaries = {"last": run.last, "best": run.best, "last_10_mean": _average(run)}
        for kind, summary in summaries.items():
            if summary is None:
                continue
            scores = [summary[mean] for mean in means]
            scores += [summary["iou_per_class"][name] for name in names]
            cells = ["" if score is None else f"{100 * score:.4f}" for score in scores]
            others = [summary.get(name) for name in criteria.CRITERIA]
            cells += ["" if other is None else f"{other:.6f}" for other in others]
            writer.writerow(
                [run.method, value, run.seed, kind, summary["split"], summary["step"], *cells]
            )
    return text.getvalue()


def _means(study: Study) -> dict[str, str]:
    """The means that the label set defines, and their heads; that of 16 of 16 is the mean."""
    held = study.runs[0].last
    return {
        name: head.replace("mean IoU", "mIoU")
        for name, head in MEANS.items()
        if name in held and not (name == "mean_iou_16" and study.about.num_classes == 16)
    }


def _average(run: RunScores) -> Summary | None:
    """Averages the last evaluations of a run, where all of them have the score."""
    history = run.history(LAST_EVALUATIONS)
    if not history:
        return None

    def mean(values: list[float | None]) -> float | None:
        defined = [value for value in values if value is not None]
        return sum(defined) / len(defined) if len(defined) == len(values) else None

    last = history[-1]
    numbers = [name for name in (*MEANS, *criteria.CRITERIA) if name in last]
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
    """The layout of Tables 3 and 4: a row for each setting, a column for each class and mean.

    Args:
      study: with at least one run.
      pick: the summary of a run to show; runs without it are left out.
      digits: after the point.
    Returns:
      (heads, rows) of text: mean ± standard deviation over seeds, in percent.
    """
    names, means = LABEL_SETS[study.about.num_classes].names, _means(study)
    heads = ["method", "seeds", *means.values(), *(_short_name(name) for name in names)]
    rows = []
    for setting, runs in study.by_setting().items():
        summaries = [summary for run in runs if (summary := pick(run)) is not None]
        columns = [[summary[mean] for summary in summaries] for mean in means]
        columns += [[summary["iou_per_class"][name] for summary in summaries] for name in names]
        cells = [statistics.format_percent(column, digits) for column in columns]
        rows.append([setting, str(len(summaries)), *cells])
    return heads, rows


def relative_row(study: Study) -> list[str] | None:
    """The paper's last row: the last setting minus the first, on the seeds that both have."""
    settings = study.by_setting()
    if len(settings) < 2:
        return None
    first, *_, last = settings
    theirs = {run.seed: run.last for run in settings[first]}
    pairs = [(run.last, theirs[run.seed]) for run in settings[last] if run.seed in theirs]
    if not pairs:
        return None
    names, means = LABEL_SETS[study.about.num_classes].names, _means(study)
    columns = [[_subtract(ours[m], other[m]) for ours, other in pairs] for m in means]
    columns += [
        [_subtract(ours["iou_per_class"][n], other["iou_per_class"][n]) for ours, other in pairs]
        for n in names
    ]
    cells = [statistics.format_percent(column) for column in columns]
    return [f"{last} minus {first}", str(len(pairs)), *cells]


def _subtract(ours: float | None, other: float | None) -> float | None:
    return None if ours is None or other is None else ours - other


def _short_name(name: str) -> str:
    return _SHORT_NAMES.get(name, name.capitalize())


def difference_table(study: Study) -> tuple[list[str], Rows]:
    """Every two settings: their paired difference in mean IoU, in points of percent."""
    heads = [
        "difference in mIoU",
        "mean ± std",
        "95 % bootstrap",
        "95 % Student's t",
        "seeds above 0",
    ]
    rows = []
    for found in statistics.paired_differences(study):
        above = sum(difference > 0 for difference in found.differences)
        rows.append(
            [
                f"{found.first} minus {found.second}",
                statistics.format_percent(found.differences, 2),
                _interval(found.bootstrap),
                _interval(found.student),
                f"{above} of {len(found.differences)}",
            ]
        )
    return heads, rows


def _interval(interval: statistics.Interval | None) -> str:
    if interval is None:
        return "one seed: none"
    return f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"


def criterion_table(study: Study) -> tuple[list[str], Rows]:
    """How well each criterion without labels ranks checkpoints and settings."""
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
    text = f"{scale * mean:.2f}"
    return text if std is None else f"{text} ± {scale * std:.2f}"


def published_table(study: Study) -> tuple[list[str], Rows]:
    """The paper's rows of the same task, in percent as printed; no rows for another task."""
    num_classes = study.about.num_classes
    names = LABEL_SETS[num_classes].names
    task = published_tables.task_of(study.about.source, num_classes=num_classes)
    rows = []
    for row in published_tables.published_rows(task):
        numbers = [row.mean_iou, row.mean_iou_13, *(row.iou_per_class[name] for name in names)]
        cells = ["-" if number is None else f"{number:g}" for number in numbers]
        rows.append([str(row.table), row.method, *cells])
    return ["table", "method", "mIoU", "mIoU-13", *(_short_name(name) for name in names)], rows


def describe_scores(study: Study) -> str:
    """Says what the first table holds."""
    about = study.about
    return (
        f"IoU in percent on {about.dataset} {about.reported_split} after the last step, mean ± "
        "standard deviation over seeds. No target label was used to choose a checkpoint."
    )


def describe_best(study: Study) -> str:
    """Says what the table of the best checkpoints holds."""
    return (
        f"By mean IoU on {study.about.evaluation_split}, as AdvEnt's code does: not a score of a "
        "method that uses no target labels."
    )


def describe_criteria(study: Study) -> str:
    """Says what the table of criteria holds."""
    return (
        f"How well they rank the evaluations of a run on {study.about.evaluation_split} "
        "(Spearman's correlation with mean IoU: 1 as well, 0 not at all) and the settings of a "
        "seed, and the mean IoU that the criterion's choice loses against the best evaluation. An "
        "analysis: it uses target labels."
    )


def to_markdown(study: Study) -> str:
    """All tables with what they say."""
    about = study.about
    heads, rows = score_table(study)
    relative = relative_row(study)
    parts = [
        f"# {about.config}: {', '.join(about.methods)}",
        describe_scores(study),
        markup.markdown_table(heads, [*rows, *([relative] if relative else [])]),
        "## Paired differences",
        DIFFERENCES_NOTE,
        markup.markdown_table(*difference_table(study)),
        f"## The last {LAST_EVALUATIONS} evaluations",
        f"Mean of each run's last {LAST_EVALUATIONS} evaluations, on {about.evaluation_split}.",
        markup.markdown_table(*score_table(study, _average)),
        "## Best checkpoint, chosen with target labels",
        describe_best(study),
        markup.markdown_table(*score_table(study, lambda run: run.best)),
        "## Criteria without labels",
        describe_criteria(study),
        markup.markdown_table(*criterion_table(study)),
    ]
    published_heads, published_rows = published_table(study)
    if published_rows:
        table = markup.markdown_table(published_heads, published_rows)
        parts += ["## Published", "As the paper prints them.", table]
    return "\n\n".join([*parts, *_footer(study)]) + "\n"


def _footer(study: Study) -> list[str]:
    about = study.about
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    seeds = ", ".join(map(str, about.seeds))
    return ["## How", f"```\n{about.command}\n```", f"Seeds {seeds}; {versions}."]


def to_latex(study: Study) -> str:
    """The table of the last step for a paper: \\usepackage{booktabs}."""
    heads, rows = score_table(study)
    relative = relative_row(study)
    return f"% {study.about.command}\n" + markup.latex_table(heads, rows, relative)
