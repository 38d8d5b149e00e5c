"""Writes the results of an experiment as JSON, CSV, Markdown, LaTeX and one picture.

Synopsis:

  save(experiment, choices, study, workdir)     # methods.json, .csv, .md, .tex, .png
"""

import csv
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from alp_jax.evaluation import figures
from alp_jax.evaluation.metrics import MEAN_IOU
from alp_jax.study import choices as choosing
from alp_jax.study import documents, markup, method_picture, method_rows, statistics, tables
from alp_jax.study.choices import Choice
from alp_jax.study.experiment import Experiment
from alp_jax.study.method_rows import GroupDifference, MethodRow
from alp_jax.study.scores import Study
from alp_jax.workdir import files

STEM = "methods"
_TASKS = {1: "SYNTHIA", 2: "GTA5"}
# Head of a column -> (table of the paper, its number).
_PUBLISHED = {
    "paper, SYNTHIA: mIoU-16": (1, "mean_iou"),
    "paper, SYNTHIA: mIoU-13": (1, "mean_iou_13"),
    "paper, GTA5: mIoU-19": (2, "mean_iou"),
}
_COMPARISONS = {
    "Against source-only": method_rows.compare_with_source_only,
    "What alignment adds": method_rows.compare_groups,
}


def save(
    experiment: Experiment, choices: Mapping[str, Choice], study: Study, workdir: pathlib.Path
) -> None:
    """Writes all files; nothing while no run is finished."""
    rows = method_rows.collect(experiment, choices, study)
    if not rows:
        return
    described = describe(experiment, choices, study, rows)
    files.write_json(workdir / f"{STEM}.json", described, indent=1)
    files.write_text(workdir / f"{STEM}.csv", to_csv(study, rows))
    files.write_text(workdir / f"{STEM}.md", to_markdown(experiment, study, rows))
    files.write_text(workdir / f"{STEM}.tex", to_latex(experiment, study, rows))
    figures.save(method_picture.draw(study, rows), workdir / f"{STEM}.png")


def _chosen_head(experiment: Experiment, study: Study) -> str:
    return (
        f"chosen from {experiment.num_candidates} by mIoU on {study.about.evaluation_split} "
        "(target labels)"
    )


def score_table(
    experiment: Experiment, study: Study, rows: Sequence[MethodRow]
) -> tuple[list[str], list[list[str]]]:
    """Creates the table in the layout of the paper's Tables 1 and 2, its numbers beside.

    Returns:
      (heads, rows) of text: mean ± standard deviation over seeds, in percent.
    """
    means = tables.list_means(study)
    heads = ["method", "seeds", *means.values(), *tables.class_heads(study)]
    heads += [_chosen_head(experiment, study), *_PUBLISHED]
    formatted = []
    for row in rows:
        columns = [row.values(mean) for mean in means]
        columns += [row.class_values(name) for name in study.about.classes]
        numbers = [row.published_number(*place) for place in _PUBLISHED.values()]
        formatted.append(
            [
                row.entry.title,
                str(len(row.runs)),
                *map(statistics.format_percent, columns),
                row.describe_choice(),
                *("-" if number is None else f"{number:g}" for number in numbers),
            ]
        )
    return heads, formatted


def choice_table(rows: Sequence[MethodRow]) -> tuple[list[str], list[list[str]]]:
    """Creates the table of candidates: their mean IoU on the evaluation split, and the choice."""
    formatted = []
    for row in rows:
        choice = row.choice
        for index, (fields, scores) in enumerate(
            zip(choice.candidates, choice.scores, strict=True)
        ):
            setting = ", ".join(f"{name} {value}" for name, value in fields.items())
            chosen = "chosen" if index == choice.chosen else ""
            found = (
                "diverged" if any(map(math.isnan, scores)) else statistics.format_percent(scores, 2)
            )
            formatted.append([row.entry.title, setting, found, chosen])
    return ["method", "candidate", "mIoU (target labels)", ""], formatted


def difference_table(found: Sequence[GroupDifference]) -> tuple[list[str], list[list[str]]]:
    """Creates the table of paired differences, in points."""
    return tables.DIFFERENCE_HEADS, [tables.difference_row(each.found) for each in found]


def order_table(order: method_rows.Order) -> tuple[list[str], list[list[str]]]:
    """Creates the table of ranks here and in a table of the paper."""
    ours = sorted((mean for _, mean, _ in order.rows), reverse=True)
    formatted = [
        [row.entry.title, f"{number:g}", str(place), f"{100 * mean:.1f}", str(ours.index(mean) + 1)]
        for place, (row, mean, number) in enumerate(order.rows, start=1)
    ]
    return ["method", "paper", "rank there", "here", "rank here"], formatted


def _describe_choice(experiment: Experiment, study: Study) -> str:
    seeds = ", ".join(map(str, experiment.tuning_seeds))
    shared = set(experiment.tuning_seeds) & set(experiment.seeds)
    part = "the seeds that are reported, too" if shared else "no reported run had a part in it"
    return (
        f"Every method that has a weight to choose chose from {experiment.num_candidates} "
        f"candidates, by mean IoU on {study.about.dataset} {study.about.evaluation_split} after "
        f"the last step, so with target labels; seeds {seeds}: {part}. An addition begins with "
        "what its base chose."
    )


def to_markdown(experiment: Experiment, study: Study, rows: Sequence[MethodRow]) -> str:
    """Formats all tables with their descriptions."""
    about = study.about
    parts = [
        f"# {len(rows)} methods, {about.dataset}",
        documents.describe_scores(study)
        + " The paper's numbers are of other networks, data and tricks of evaluation, most of them "
        "of the best checkpoint.",
        markup.markdown_table(*score_table(experiment, study, rows)),
        f"![Mean IoU of every method, and what alignment adds]({STEM}.png)",
    ]
    if experiment.num_candidates:
        parts += [
            "## What was chosen",
            _describe_choice(experiment, study),
            markup.markdown_table(*choice_table(rows)),
        ]
    for title, compare in _COMPARISONS.items():
        for score, name in tables.list_means(study).items():
            if found := compare(rows, score):
                parts += [f"## {title}, {name}", documents.DIFFERENCES_NOTE]
                parts.append(markup.markdown_table(*difference_table(found)))
    for table in method_rows.TABLES:
        order = method_rows.order_as_published(rows, table)
        if order.correlation is not None:
            parts += [
                f"## The order of the paper's Table {table}",
                f"{_TASKS[table]} → Cityscapes there; by {tables.list_means(study)[order.score]}. "
                f"Spearman's rank correlation: {order.correlation:.2f}.",
                markup.markdown_table(*order_table(order)),
            ]
    return "\n\n".join([*parts, *documents.footer(study)]) + "\n"


def to_latex(experiment: Experiment, study: Study, rows: Sequence[MethodRow]) -> str:
    """Formats the scores and the differences for a paper; it needs \\usepackage{booktabs}."""
    heads, formatted = score_table(experiment, study, rows)
    groups = {i for i, row in enumerate(rows) if i and row.entry.role == "method"}
    texts = {_chosen_head(experiment, study), *_PUBLISHED}
    parts = [
        f"% {study.about.command}",
        markup.latex_table(heads, formatted, None, texts=texts, new_groups=groups),
    ]
    if found := method_rows.compare_groups(rows, MEAN_IOU):
        heads, differences = difference_table(found)
        parts.append(markup.latex_table(heads, differences, None, texts=heads))
    return "\n".join(parts)


def to_csv(study: Study, rows: Sequence[MethodRow]) -> str:
    """Formats one row for each method: means and standard deviations over seeds, in percent."""
    means = list(tables.list_means(study))
    names = [*means, *study.about.classes]
    head = ["method", "title", "base", "role", "seeds", "chosen", "candidates"]
    head += [f"{name}{end}" for name in names for end in ("", "_std")]
    head += [f"paper_table_{table}_{name}" for table, name in _PUBLISHED.values()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        entry = row.entry
        cells: list[Any] = [entry.name, entry.title, entry.base, entry.role, len(row.runs)]
        cells += ["" if row.choice.chosen is None else row.describe_choice()]
        cells += [len(row.choice.candidates)]
        columns = [row.values(mean) for mean in means]
        columns += [row.class_values(name) for name in study.about.classes]
        for column in columns:
            cells += _mean_and_std(column)
        numbers = [row.published_number(*place) for place in _PUBLISHED.values()]
        cells += ["" if number is None else f"{number:g}" for number in numbers]
        writer.writerow(cells)
    return text.getvalue()


def _mean_and_std(values: Sequence[float | None]) -> list[str]:
    defined = [value for value in values if value is not None]
    if not defined:
        return ["", ""]
    found = statistics.mean_and_std(defined)
    return ["" if number is None else f"{100 * number:z.4f}" for number in found]


def describe(
    experiment: Experiment,
    choices: Mapping[str, Choice],
    study: Study,
    rows: Sequence[MethodRow],
) -> dict[str, Any]:
    """Describes all results for JSON: IoU in [0, 1], the paper's numbers in percent."""
    means = list(tables.list_means(study))
    return {
        "command": study.about.command,
        "config": experiment.config,
        "dataset": study.about.dataset,
        "split": study.about.reported_split,
        "versions": study.about.versions,
        "choices": choosing.describe(experiment, choices),
        "methods": [
            {
                "name": row.entry.name,
                "title": row.entry.title,
                "variant": row.entry.variant,
                "base": row.entry.base,
                "role": row.entry.role,
                "fields": {**row.entry.fields, **row.choice.fields},
                "seeds": [run.seed for run in row.runs],
                **{mean: row.values(mean) for mean in means},
                "iou_per_class": {name: row.class_values(name) for name in study.about.classes},
                "published": {
                    f"table_{published.table}": {
                        "method": published.method,
                        "mean_iou": published.mean_iou,
                        "mean_iou_13": published.mean_iou_13,
                    }
                    for published in row.published.values()
                },
            }
            for row in rows
        ],
        "differences": {
            mean: [
                {
                    "base": difference.base.entry.name,
                    "first": difference.first.entry.name,
                    "second": difference.second.entry.name,
                    "differences": list(difference.found.differences),
                    "mean": difference.found.mean,
                    "std": difference.found.std,
                    "student": difference.found.student,
                    "bootstrap": difference.found.bootstrap,
                }
                for compare in _COMPARISONS.values()
                for difference in compare(rows, mean)
            ]
            for mean in means
        },
    }
