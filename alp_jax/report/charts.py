"""Draws learning curves of runs in the current style (`figures.render`: light and dark)."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alp_jax.evaluation import figures, label_free
from alp_jax.objective.types import Curve
from alp_jax.report.runs import ReportRun

# Reads a number from a line of metrics.jsonl or from a summary; None if the number is missing.
_Pick = Callable[[dict[str, Any]], float | None]

_EVALUATIONS = (
    Curve("mean IoU (%), uses labels", ("mean_iou",), scale=100),
    *(Curve(criterion.title, (name,)) for name, criterion in label_free.CRITERIA.items()),
)
_COLUMNS = 4


def draw_curves(runs: Sequence[ReportRun]) -> Figure:
    """Draws losses (above) and scores of the target (below) over steps, one line for each run."""
    of_terms = _curves_of_terms(runs)
    starts = range(0, len(of_terms), _COLUMNS)
    rows = [(of_terms[start : start + _COLUMNS], "scalars") for start in starts]
    rows.append((_EVALUATIONS, "evaluations"))
    figure = Figure(figsize=(3.25 * _COLUMNS, 2.8 * len(rows)), layout="constrained", dpi=110)
    axes = figure.subplots(len(rows), _COLUMNS, squeeze=False)
    for axis_row, (curves, attribute) in zip(axes, rows, strict=True):
        for axis, curve in zip(axis_row, curves, strict=False):
            _draw_panel(axis, runs, attribute, _make_pick(curve))
            axis.set_title(curve.title, fontsize=10)
            axis.set_xlabel("step")
        for axis in axis_row[len(curves) :]:
            axis.set_axis_off()
    handles = [
        axes[0, 0].plot([], [], color=figures.colour_of_curve(index), label=run.name)[0]
        for index, run in enumerate(runs)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(runs), 6))
    return figure


def _curves_of_terms(runs: Sequence[ReportRun]) -> tuple[Curve, ...]:
    """Merges the curves of all terms of all runs: first the terms that most runs have.

    Of one run, terms with parameters of their own come last, as in the sum of the losses.
    """
    found = [
        curve
        for run in runs
        for term in sorted(run.settings.terms.values(), key=lambda term: term.owns_parameters)
        for curve in term.curves
    ]
    return tuple(sorted(dict.fromkeys(found), key=found.count, reverse=True))


def _make_pick(curve: Curve) -> _Pick:
    def pick(row: dict[str, Any]) -> float | None:
        values = [row.get(name) for name in curve.scalars]
        present = [value for value in values if value is not None]
        if len(present) < len(values):
            return None
        return curve.scale * sum(present) / len(present)

    return pick


def _draw_panel(axis: Axes, runs: Sequence[ReportRun], attribute: str, pick: _Pick) -> None:
    drawn = False
    for index, run in enumerate(runs):
        points = [(row["step"], pick(row)) for row in getattr(run, attribute)]
        defined = [(step, value) for step, value in points if value is not None]
        if defined:
            drawn = True
            marker = "o" if attribute == "evaluations" else None
            axis.plot(
                *zip(*defined, strict=True),
                color=figures.colour_of_curve(index),
                marker=marker,
                markersize=3,
                linewidth=1.4,
            )
    if not drawn:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "missing:\nno labels, or not logged", ha="center", va="center")
    axis.ticklabel_format(axis="y", useOffset=False)
    _widen(axis)
    figures.tidy(axis, legend=False)


def _widen(axis: Axes) -> None:
    """Widens the range of a flat curve, whose ticks would differ in the sixth digit only."""
    low, high = axis.get_ylim()
    least = 1e-3 * max(abs(low), abs(high))
    if high - low < least:
        middle = (low + high) / 2
        axis.set_ylim(middle - least / 2, middle + least / 2)
