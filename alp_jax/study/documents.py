"""Writes a study's tables as CSV, Markdown and LaTeX.

Synopsis:

  save(study, workdir)     # study.csv, study.md, study.tex
"""

import pathlib

from alp_jax.study import markup, tables
from alp_jax.study.scores import Study
from alp_jax.workdir import files

STEM = "study"
DIFFERENCES_NOTE = (
    "Runs with the same seed start from the same weights and see the same source images. With few "
    "seeds the bootstrap interval (BCa) is somewhat too narrow; Student's is beside it."
)


def save(study: Study, workdir: pathlib.Path) -> None:
    """Writes all three files; expects at least one run."""
    files.write_text(workdir / f"{STEM}.csv", tables.to_csv(study))
    files.write_text(workdir / f"{STEM}.md", to_markdown(study))
    files.write_text(workdir / f"{STEM}.tex", to_latex(study))


def describe_scores(study: Study) -> str:
    """Describes the first table."""
    about = study.about
    return (
        f"IoU in percent on {about.dataset} {about.reported_split} after the last step, mean ± "
        "standard deviation over seeds. No target label was used to choose a checkpoint."
    )


def describe_best(study: Study) -> str:
    """Describes the table of the best checkpoints."""
    return (
        f"By mean IoU on {study.about.evaluation_split}, as AdvEnt's code does: not a score of a "
        "method that uses no target labels."
    )


def describe_criteria(study: Study) -> str:
    """Describes the table of criteria."""
    return (
        f"How well each criterion ranks the evaluations of a run on {study.about.evaluation_split} "
        "and the settings of a seed (Spearman's correlation with mean IoU: 1 ranks as mean IoU "
        "does, 0 not at all), and how much mean IoU its choice loses against the best evaluation "
        "(regret). This is an analysis: it uses target labels."
    )


def choice_title(study: Study) -> str:
    """Returns the heading of the tables of best against best, in a study with a swept field."""
    return f"Best against best: each method's own {study.about.sweep_field}"


def describe_choices(study: Study) -> str:
    """Describes the tables of best against best."""
    about = study.about
    return (
        f"The value that is best on {about.evaluation_split} after the last step, averaged over "
        f"seeds, and its score on {about.reported_split}: by mean IoU, which uses target labels, "
        "and by criteria that use none. A method that makes no use of the field has no choice."
    )


def to_markdown(study: Study) -> str:
    """Formats all tables with their descriptions."""
    about, averaged = study.about, _describe_averaged(study)
    heads, rows = tables.score_table(study)
    relative = tables.relative_row(study)
    parts = [
        f"# {about.config}: {', '.join(about.methods)}",
        describe_scores(study),
        markup.markdown_table(heads, [*rows, *([relative] if relative else [])]),
        "## Paired differences",
        DIFFERENCES_NOTE,
        markup.markdown_table(*tables.difference_table(study)),
        f"## The last {averaged}",
        f"Mean of each run's last {averaged}, on {about.evaluation_split}; and "
        "the standard deviation of mIoU over them, averaged over seeds.",
        markup.markdown_table(*tables.history_table(study)),
        "## Best checkpoint, chosen with target labels",
        describe_best(study),
        markup.markdown_table(*tables.score_table(study, lambda run: run.best)),
        "## Criteria without labels",
        describe_criteria(study),
        markup.markdown_table(*tables.criterion_table(study)),
    ]
    if about.sweep_field:
        parts += [
            f"## {choice_title(study)}",
            describe_choices(study),
            *(markup.markdown_table(*table) for table in tables.choice_tables(study)),
        ]
    published_heads, published_rows = tables.published_table(study)
    if published_rows:
        table = markup.markdown_table(published_heads, published_rows)
        parts += ["## Published", "As the paper prints them.", table]
    return "\n\n".join([*parts, *footer(study)]) + "\n"


def _describe_averaged(study: Study) -> str:
    """Says how many evaluations of a run are averaged: "10 evaluations", "2 to 10 evaluations"."""
    counts = [tables.count_averaged(run) for run in study.runs]
    few, many = min(counts), max(counts)
    if many == 1:
        return "evaluation"
    return f"{few} evaluations" if few == many else f"{few} to {many} evaluations"


def footer(study: Study) -> list[str]:
    """Says how a study was run: command, seeds and versions."""
    about = study.about
    versions = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    seeds = ", ".join(map(str, about.seeds))
    return ["## How", f"```\n{about.command}\n```", f"Seeds {seeds}; {versions}."]


def to_latex(study: Study) -> str:
    """Formats the table of the last step for a paper; it needs \\usepackage{booktabs}."""
    heads, rows = tables.score_table(study)
    relative = tables.relative_row(study)
    return f"% {study.about.command}\n" + markup.latex_table(heads, rows, relative)
