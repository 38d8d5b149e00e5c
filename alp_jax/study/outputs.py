"""Writes the files of a study, and prints its scores.

Synopsis:

  save(study, workdir)     # study.json, .csv, .md, .tex; sweep.png, .csv
  write_report(workdir)    # report/report.html and its pictures
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as RichTable

from alp_jax.command import versions
from alp_jax.errors import UserError
from alp_jax.evaluation import figures
from alp_jax.report import writing
from alp_jax.report.page import Figure, Paragraph, Section, Table
from alp_jax.settings.compare import as_flags
from alp_jax.study import documents, method_documents, scores, statistics, sweep, tables
from alp_jax.study.plan import Plan
from alp_jax.study.scores import About, RunScores, Study
from alp_jax.study.tuning import Tuner
from alp_jax.workdir import classes

REPORT_FOLDER = "report"


def describe(plan: Plan, config_path: str, overrides: Sequence[str], command: str) -> About:
    """Describes how a study is run, for its tables."""
    first = plan.runs[0]
    label_set = classes.load(first.workdir, first.config.data.label_set)
    return About(
        command=command,
        config=config_path,
        overrides=tuple(overrides),
        methods=tuple(dict.fromkeys(run.method for run in plan.runs)),
        label_set=first.config.data.label_set,
        classes=label_set.names,
        reports=label_set.partial_reports(),
        source=first.config.data.source,
        dataset=first.config.evaluation.dataset,
        evaluation_split=first.config.evaluation.split,
        reported_split=first.reported_split,
        sweep_field=plan.sweep_field,
        sweep_values=plan.sweep_values,
        seeds=tuple(dict.fromkeys(run.seed for run in plan.runs)),
        versions=versions.describe(),
    )


def save(study: Study, workdir: pathlib.Path) -> None:
    """Writes the numbers, the tables and, with a sweep, its plot; replaces existing files."""
    scores.save(study, workdir)
    if not study.runs:
        return
    documents.save(study, workdir)
    if study.about.sweep_field:
        sweep.save_sweep(study, workdir)


def run_experiment(tuner: Tuner, command: str) -> Study:
    """Runs an experiment, and writes its tables after every reported run.

    Args:
      tuner: the experiment.
      command: the command line, for the tables.
    Raises:
      UserError: as `Tuner.run`; or if the tables would lose a run.
    """
    experiment, workdir = tuner.experiment, tuner.workdir
    tuner.check_earlier_study()
    found: list[Study] = []

    def save_finished(plan: Plan, finished: tuple[RunScores, ...]) -> None:
        overrides = as_flags(experiment.fields)
        about = dataclasses.replace(
            describe(plan, experiment.config, overrides, command),
            compared=tuple((pair.first.name, pair.second.name) for pair in experiment.list_pairs()),
        )
        found[:] = [Study(about, finished)]
        scores.save(found[0], workdir)
        method_documents.save(experiment, tuner.choices, found[0], workdir)

    tuner.run(save_finished)
    return found[0]


def write_report(workdir: pathlib.Path) -> pathlib.Path:
    """Writes the page of a study: its tables, then the runs of the first seed.

    With a sweep, a method is shown at its first finished value; of an ensemble, its members are.

    Returns:
      the path of the page.
    Raises:
      UserError: if the folder holds no finished run of a study.
    """
    study = scores.load(workdir)
    shown: dict[str, pathlib.Path] = {}
    for runs in study.by_setting().values():
        first = runs[0]
        if not first.members:
            shown.setdefault(first.method, workdir / first.workdir)
        for member in first.members:
            shown.setdefault(pathlib.Path(member).parent.name, workdir / member)
    if not shown:
        raise UserError(f"No run of the study in {workdir} is finished: continue it first.")
    about = study.about
    return writing.write_report(
        shown,
        workdir / REPORT_FOLDER,
        title=f"{about.config}: {', '.join(about.methods)}",
        split=about.reported_split,
        sections=_sections(study),
    )


def _sections(study: Study) -> list[Section]:
    about = study.about
    heads, rows = tables.score_table(study)
    relative = tables.relative_row(study)
    found = [
        Section(
            "Scores over seeds",
            [
                Paragraph(documents.describe_scores(study)),
                Table(heads, [*rows, *([relative] if relative else [])]),
                Paragraph(documents.DIFFERENCES_NOTE),
                Table(*tables.difference_table(study)),
            ],
        ),
        Section(
            "Best checkpoint, chosen with target labels",
            [
                Paragraph(documents.describe_best(study)),
                Table(*tables.score_table(study, lambda run: run.best)),
            ],
        ),
        Section(
            "Criteria without labels",
            [Paragraph(documents.describe_criteria(study)), Table(*tables.criterion_table(study))],
        ),
    ]
    published_heads, published_rows = tables.published_table(study)
    if published_rows:
        table = Table(published_heads, published_rows)
        found.append(Section("Published", [Paragraph("As the paper prints them."), table]))
    if about.sweep_field:
        picture = figures.render(lambda: sweep.draw_sweep(study))
        caption = "Dots are seeds; a dashed line is a method that does not use the field."
        plot = Figure(picture, caption, f"Mean IoU over values of {about.sweep_field}.")
        choices: list[Paragraph | Table | Figure] = [
            Paragraph(documents.describe_choices(study)),
            *(Table(*table) for table in tables.choice_tables(study)),
        ]
        found[1:1] = [
            Section(f"Sweep of {about.sweep_field}", [plot]),
            Section(documents.choice_title(study), choices),
        ]
    installed = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    how = Section("How", [Paragraph(about.command, code=True), Paragraph(installed)])
    return [*found, how]


def print_scores(study: Study) -> None:
    """Prints the mean IoU of every setting, in percent."""
    about = study.about
    table = RichTable("method", "mean IoU %", "seeds")
    table.columns[1].justify = table.columns[2].justify = "right"
    for name, runs in study.by_setting().items():
        found = [run.last["mean_iou"] for run in runs if run.last["mean_iou"] is not None]
        table.add_row(name, statistics.format_percent(found), str(len(found)))
    print(f"{about.dataset} {about.reported_split}, last step:")
    Console().print(table)
