"""Compares the difference between two methods across studies.

Synopsis:

  comparison = compare_studies([runs/with_shift, runs/without_shift])
  save(comparison, workdir)     # comparison.md, .csv and .png

The studies have the same methods, and differ in the data, the network, or any field: for example,
to measure the advantage of local alignment with and without a shift of cameras. A change between
two studies is paired by seed, so that the effect of the seed cancels in runs from the same starts
(--starts).
"""

import csv
import dataclasses
import io
import itertools
import pathlib
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alp_jax.errors import UserError
from alp_jax.evaluation import figures
from alp_jax.study import markup, scores, statistics
from alp_jax.study.scores import Study
from alp_jax.study.statistics import PairedDifference
from alp_jax.workdir import files, outputs

STEM = "comparison"
_OUTPUTS = outputs.Kind(
    "a comparison",
    flag="workdir",
    is_earlier=lambda folder: all((folder / f"{STEM}.{end}").is_file() for end in ("md", "csv")),
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Studies side by side.

    Attributes:
      studies: name -> study, in the order given.
      settings: settings that all studies have.
      differences: (first setting, second setting) -> for each study, first minus second.
      changes: (first setting, second setting) -> for each study but the first, its difference minus
        the first study's; None if the two studies have no seed in common.
    """

    studies: dict[str, Study]
    settings: tuple[str, ...]
    differences: dict[tuple[str, str], tuple[PairedDifference, ...]]
    changes: dict[tuple[str, str], tuple[PairedDifference | None, ...]]


def compare_studies(workdirs: Sequence[pathlib.Path]) -> Comparison:
    """Reads studies and compares every two settings in each.

    Args:
      workdirs: folders of at least two studies; a study has the name of its folder.
    Raises:
      UserError: if there are fewer than two studies, two have the same name, one is missing
        or has no finished run, or they have no two settings in common.
    """
    names = [workdir.resolve().name for workdir in workdirs]
    if len(names) < 2:
        raise UserError(
            f"--studies is {', '.join(map(str, workdirs)) or 'empty'}: expected the folders of at "
            "least two studies, separated by commas."
        )
    for name in names:
        same = [str(w) for w, other in zip(workdirs, names, strict=True) if other == name]
        if len(same) > 1:
            raise UserError(
                f"--studies has {' and '.join(same)}, whose last folders are both called {name}: "
                "expected folders with different names, by which the tables tell the studies "
                "apart; rename one."
            )
    studies = {name: scores.load(workdir) for name, workdir in zip(names, workdirs, strict=True)}
    grouped = [study.by_setting() for study in studies.values()]
    settings = tuple(name for name in grouped[0] if all(name in other for other in grouped))
    differences: dict[tuple[str, str], tuple[PairedDifference, ...]] = {}
    changes: dict[tuple[str, str], tuple[PairedDifference | None, ...]] = {}
    for second, first in itertools.combinations(settings, 2):
        by_seed = [statistics.differences_by_seed(runs[first], runs[second]) for runs in grouped]
        if not all(by_seed):
            continue
        pair = (first, second)
        differences[pair] = tuple(
            statistics.compare(first, second, tuple(found.values())) for found in by_seed
        )
        changes[pair] = tuple(
            _compare_changes(name, names[0], found, by_seed[0])
            for name, found in zip(names[1:], by_seed[1:], strict=True)
        )
    if not differences:
        raise UserError(
            f"The studies {', '.join(names)} have no two scored settings in common: the first has "
            f"{', '.join(grouped[0]) or 'none'}; give studies of the same --methods."
        )
    return Comparison(studies, settings, differences, changes)


def _compare_changes(
    name: str, reference: str, found: dict[int, float], in_reference: dict[int, float]
) -> PairedDifference | None:
    seeds = [seed for seed in found if seed in in_reference]
    if not seeds:
        return None
    return statistics.compare(
        name, reference, tuple(found[seed] - in_reference[seed] for seed in seeds)
    )


def save(comparison: Comparison, workdir: pathlib.Path, command: str) -> pathlib.Path:
    """Writes the tables and the plot; returns the path of the Markdown file.

    Raises:
      UserError: if the folder cannot be written to.
    """
    outputs.claim(workdir, _OUTPUTS)
    try:
        files.write_text(workdir / f"{STEM}.csv", _to_csv(comparison))
        files.write_text(workdir / f"{STEM}.md", to_markdown(comparison, command))
        figures.save(draw(comparison), workdir / f"{STEM}.png")
    except OSError as error:
        raise outputs.cannot_write(workdir, _OUTPUTS, error) from error
    return workdir / f"{STEM}.md"


def to_markdown(comparison: Comparison, command: str) -> str:
    """Formats the mean IoU of every setting, the differences in each study, and their changes."""
    names = list(comparison.studies)
    intervals = [f"{name}, 95 % (t)" for name in names]
    heads = [
        "difference in mIoU",
        *(head for both in zip(names, intervals, strict=True) for head in both),
    ]
    rows = []
    for (first, second), found in comparison.differences.items():
        cells = [cell for difference in found for cell in _describe(difference)]
        rows.append([f"{first} minus {second}", *cells])
    change_rows = [
        [f"{first} minus {second}", f"{change.first} minus {change.second}", *_describe(change)]
        for (first, second), found in comparison.changes.items()
        for change in found
        if change is not None
    ]
    parts = [
        f"# {', '.join(names)}",
        "Mean IoU in percent after the last step, mean ± standard deviation over seeds.",
        markup.markdown_table(
            ["study", "scored on", *comparison.settings], _score_rows(comparison)
        ),
        "## Differences within each study",
        "Paired by seed, in points, with Student's t interval of the mean.",
        markup.markdown_table(heads, rows),
        "## How they change between studies",
        f"The difference in a study minus that in {names[0]}, of the same seed.",
        markup.markdown_table(
            ["difference in mIoU", "change", "mean ± std", "95 % (t)"], change_rows
        ),
        "## How",
        f"```\n{command}\n```",
        "\n".join(
            f"- {name}: `{study.about.command}`" for name, study in comparison.studies.items()
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _score_rows(comparison: Comparison) -> list[list[str]]:
    rows = []
    for name, study in comparison.studies.items():
        settings = study.by_setting()
        cells = [
            statistics.format_percent([run.last["mean_iou"] for run in settings[setting]])
            for setting in comparison.settings
        ]
        rows.append([name, f"{study.about.dataset} {study.about.reported_split}", *cells])
    return rows


def _describe(difference: PairedDifference) -> tuple[str, str]:
    return (
        statistics.format_percent(difference.differences, 2),
        statistics.format_interval(difference.student),
    )


def _to_csv(comparison: Comparison) -> str:
    """Formats a row for each pair of settings and study, in points; no interval for one seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["first", "second", "study", "mean", "std", "student_low", "student_high", "seeds"]
    )
    for (first, second), found in comparison.differences.items():
        for name, difference in zip(comparison.studies, found, strict=True):
            numbers = (difference.mean, difference.std, *(difference.student or (None, None)))
            cells = ["" if number is None else f"{100 * number:z.4f}" for number in numbers]
            writer.writerow([first, second, name, *cells, len(difference.differences)])
    return text.getvalue()


def draw(comparison: Comparison) -> Figure:
    """Draws every difference in every study, with Student's t intervals and seeds as dots."""
    width = max(6.4, 1.6 * len(comparison.studies) + 2.0)
    figure = Figure(figsize=(width, 4.2), layout="constrained", dpi=150)
    _draw(comparison, figure.subplots())
    return figure


def _draw(comparison: Comparison, axis: Axes) -> None:
    count = len(comparison.differences)
    for index, ((first, second), found) in enumerate(comparison.differences.items()):
        colour = figures.colour_of_curve(index)
        places = [study + 0.6 * ((index + 0.5) / count - 0.5) for study in range(len(found))]
        means = [100 * difference.mean for difference in found]
        errors = [
            100 * (difference.student[1] - difference.mean) if difference.student else 0.0
            for difference in found
        ]
        axis.errorbar(
            places,
            means,
            yerr=errors,
            color=colour,
            marker=figures.MARKERS[index % len(figures.MARKERS)],
            linestyle="none",
            markersize=6,
            capsize=4,
            label=f"{first} minus {second}",
        )
        for place, difference in zip(places, found, strict=True):
            seeds = [100 * value for value in difference.differences]
            figures.draw_seeds(axis, place, seeds, colour)
    axis.axhline(0.0, color="#808080", linewidth=0.8)
    axis.set_xticks(range(len(comparison.studies)), list(comparison.studies))
    axis.set_xlim(-0.5, len(comparison.studies) - 0.5)
    axis.set_xlabel("study")
    axis.set_ylabel("difference in mean IoU (points)")
    axis.set_title("Last step, paired by seed: mean and 95 % interval (Student's t)", fontsize=10)
    figures.tidy(axis)
