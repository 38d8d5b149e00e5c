"""Draws the results of an experiment: mean IoU of every method, and what alignment adds to it.

Synopsis:

  figure = draw(study, rows)
"""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alp_jax.evaluation import figures
from alp_jax.evaluation.metrics import MEAN_IOU
from alp_jax.study import method_rows, statistics
from alp_jax.study.method_rows import MethodRow
from alp_jax.study.scores import Study

# Role -> (words, number of the colour, marker, place within the group).
_LOOKS = {
    "method": ("the method alone", 6, "o", -0.24),
    "whole": ("with alignment of whole maps", 0, "s", 0.0),
    "patches": ("with alignment of random patches (ALP)", 1, "D", 0.24),
}
_HEIGHT_OF_GROUP = 0.42  # Inches.


def draw(study: Study, rows: Sequence[MethodRow]) -> Figure:
    """Draws two panels, with a line of each for every method that is no addition.

    Left: mean IoU with Student's 95 % interval of the mean, the seeds as faint dots. Right: what
    each alignment changes, paired by seed, with the same interval.
    """
    groups = [row.entry.name for row in rows if row.entry.role == "method"]
    groups += [r.entry.base for r in rows if r.entry.base and r.entry.base not in groups]
    groups = list(dict.fromkeys(groups))
    height = 1.6 + _HEIGHT_OF_GROUP * len(groups)
    figure = Figure(figsize=(10.0, height), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = _place(rows, groups)
    _draw_scores(left, rows, places)
    _draw_differences(right, rows, places)
    titles = {row.entry.name: row.entry.title for row in rows}
    left.set_yticks(range(len(groups)), [titles.get(name, name) for name in groups])
    left.set_ylim(len(groups) - 0.5, -0.5)
    about = study.about
    left.set_xlabel(f"mean IoU, {about.dataset} {about.reported_split} (%)")
    right.set_xlabel("gain over the method alone (points)")
    for axis in (left, right):
        figures.tidy(axis, legend=False)
        axis.grid(visible=False, axis="y")
        for line in range(1, len(groups)):
            axis.axhline(line - 0.5, color="#808080", linewidth=0.3)
    handles, words = left.get_legend_handles_labels()
    figure.legend(handles, words, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    num_seeds = len({run.seed for row in rows for run in row.runs})
    figure.supxlabel(
        f"Last step, mean of {num_seeds} seeds with its 95 % interval (Student's t); dots are "
        "seeds."
        if num_seeds > 1
        else "Last step, one seed.",
        fontsize=9,
    )
    return figure


def _place(rows: Sequence[MethodRow], groups: Sequence[str]) -> dict[str, float]:
    """Places the rows on the vertical axis, each group around its own line: name -> place."""
    bases = {row.entry.base for row in rows}
    places = {}
    for row in rows:
        entry = row.entry
        line = groups.index(entry.name if entry.name in groups else entry.base)
        is_alone = entry.name in groups and entry.name not in bases
        places[entry.name] = line + (0.0 if is_alone else _LOOKS[entry.role][3])
    return places


def _draw_scores(axis: Axes, rows: Sequence[MethodRow], places: Mapping[str, float]) -> None:
    labelled: set[str] = set()
    for row in rows:
        values = [100 * value for value in row.values(MEAN_IOU) if value is not None]
        if not values:
            continue
        interval = statistics.compare("", "", tuple(values)).student
        _draw_interval(axis, row, places[row.entry.name], values, interval, labelled)


def _draw_differences(axis: Axes, rows: Sequence[MethodRow], places: Mapping[str, float]) -> None:
    for difference in method_rows.compare_groups(rows):
        if difference.second is not difference.base or difference.first.entry.role == "method":
            continue
        found = difference.found
        values = [100 * value for value in found.differences]
        interval = found.student and (100 * found.student[0], 100 * found.student[1])
        row = difference.first
        _draw_interval(axis, row, places[row.entry.name], values, interval, set(_LOOKS))
    axis.axvline(0.0, color="#808080", linewidth=1.0)


def _draw_interval(
    axis: Axes,
    row: MethodRow,
    place: float,
    values: Sequence[float],
    interval: statistics.Interval | None,
    labelled: set[str],
) -> None:
    """Draws the mean with its interval, and the values as dots; labels each role once."""
    words, colour, marker, _ = _LOOKS[row.entry.role]
    mean = sum(values) / len(values)
    low, high = interval or (mean, mean)
    axis.plot(values, [place] * len(values), ".", color=figures.colour_of_curve(colour),
              alpha=0.35, markersize=4)  # fmt: skip
    axis.errorbar(
        [mean],
        [place],
        xerr=[[mean - low], [high - mean]],
        color=figures.colour_of_curve(colour),
        marker=marker,
        markersize=5,
        capsize=2.5,
        linewidth=1.3,
        linestyle="none",
        label=None if row.entry.role in labelled else words,
    )
    labelled.add(row.entry.role)
