"""Plots a sweep: Figure 8a of Cicek et al., ACCV 2020, for any field.

Synopsis:

  save_sweep(study, workdir)     # sweep.png and sweep.csv
"""

import csv
import io
import pathlib
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alp_jax.evaluation import figures
from alp_jax.study.scores import Study, describe_value, shorten_field
from alp_jax.study.statistics import mean_and_std
from alp_jax.workdir import files

STEM = "sweep"
# End of the name of a swept field -> label of the axis.
_AXIS_NAMES = {
    "patch_size": "side of the patch (pixels)",
    "adversarial.weight": "adversarial weight \N{GREEK SMALL LETTER LAMDA}",
    "adversarial_weight": "adversarial weight \N{GREEK SMALL LETTER LAMDA}",  # Format 1.
}


def save_sweep(study: Study, workdir: pathlib.Path) -> None:
    """Draws mean IoU over the values of the swept field, and writes the numbers beside it.

    A method that uses the field is a line with standard deviations over seeds, and with each seed
    as a dot; any other method is a band.
    """
    files.write_text(workdir / f"{STEM}.csv", _to_csv(study))
    figures.save(draw_sweep(study), workdir / f"{STEM}.png")


def draw_sweep(study: Study) -> Figure:
    """Draws the plot of `save_sweep`."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=150)
    _draw(study, figure.subplots())
    return figure


def _scores(study: Study, method: str, value: Any) -> list[float]:
    """Returns the mean IoU of the last step of each seed, in percent."""
    return [
        100 * run.last["mean_iou"]
        for run in study.runs
        if (run.method, run.value) == (method, value) and run.last["mean_iou"] is not None
    ]


def _to_csv(study: Study) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", study.about.sweep_field, "mean_iou", "std", "seeds"])
    for method in study.about.methods:
        for value in (None, *study.about.sweep_values):
            scores = _scores(study, method, value)
            if scores:
                mean, std = mean_and_std(scores)
                cells = [f"{mean:.4f}", "" if std is None else f"{std:.4f}", len(scores)]
                writer.writerow([method, "" if value is None else describe_value(value), *cells])
    return text.getvalue()


def positions(values: tuple[Any, ...]) -> tuple[list[float], bool]:
    """Places values on the axis: numbers and squares by size, others one after the other.

    Returns:
      (positions, whether they are numbers).
    """
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return [float(value) for value in values], True
    if all(isinstance(value, list) and len(set(value)) == 1 for value in values):
        sides = [value[0] for value in values]
        if all(isinstance(side, int | float) for side in sides):
            return [float(side) for side in sides], True
    return [float(index) for index in range(len(values))], False


def _draw(study: Study, axis: Axes) -> None:
    about = study.about
    assert about.sweep_field is not None
    places, numeric = positions(about.sweep_values)
    if numeric and min(places) > 0 and max(places) / min(places) >= 10:
        axis.set_xscale("log")
        axis.minorticks_off()
    constants = {method: _scores(study, method, None) for method in about.methods}
    swept = [method for method, scores in constants.items() if not scores]
    ordered = numeric or not any(isinstance(value, str | bool) for value in about.sweep_values)
    for index, (method, constant) in enumerate(constants.items()):
        colour = figures.colour_of_curve(index)
        if constant:
            mean, std = mean_and_std(constant)
            axis.axhline(mean, color=colour, linewidth=1.2, linestyle="--", label=method)
            axis.axhspan(mean - (std or 0), mean + (std or 0), color=colour, alpha=0.12, lw=0)
            continue
        found = [_scores(study, method, value) for value in about.sweep_values]
        dodged = _dodge(places, swept.index(method), len(swept), log=axis.get_xscale() == "log")
        points = [
            (place, *mean_and_std(scores))
            for place, scores in zip(dodged, found, strict=True)
            if scores
        ]
        if not points:
            continue
        xs, means, stds = zip(*points, strict=True)
        axis.errorbar(
            xs,
            means,
            yerr=[std or 0.0 for std in stds],
            color=colour,
            marker=figures.MARKERS[index % len(figures.MARKERS)],
            markersize=5,
            capsize=3,
            linewidth=1.6,
            linestyle="-" if ordered else "none",
            label=method,
        )
        for place, scores in zip(dodged, found, strict=True):
            figures.draw_seeds(axis, place, scores, colour)
    _label(study, axis, places, numeric)


def _dodge(places: list[float], index: int, count: int, *, log: bool) -> list[float]:
    """Moves the index-th of `count` curves sideways, so that none hides another's error bars."""
    shift = 0.008 * (index - (count - 1) / 2)
    low, high = min(places), max(places)
    if log:
        return [place * (high / low) ** shift for place in places]
    return [place + shift * (high - low) for place in places]


def _label(study: Study, axis: Axes, places: list[float], numeric: bool) -> None:
    about = study.about
    assert about.sweep_field is not None
    axis.set_xticks(places, [describe_value(value) for value in about.sweep_values])
    if not numeric:
        axis.set_xlim(min(places) - 0.5, max(places) + 0.5)
    axis.set_xlabel(_axis_name(about.sweep_field))
    axis.set_ylabel(f"mean IoU, {about.dataset} {about.reported_split} (%)")
    num_seeds = len({run.seed for run in study.runs})
    spread = "one seed" if num_seeds == 1 else f"mean and standard deviation of {num_seeds} seeds"
    axis.set_title(f"Last step, {spread}", fontsize=10)
    figures.tidy(axis)
    if np.ptp(places) == 0 and numeric:
        axis.set_xlim(0.9 * places[0], 1.1 * places[0])


def _axis_name(field: str) -> str:
    names = [name for end, name in _AXIS_NAMES.items() if f".{field}".endswith(f".{end}")]
    return names[0] if names else shorten_field(field).replace("_", " ")
