"""Learning curves of runs, in the current style: `figures.render` draws for light and dark."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alp_jax.evaluation import figures
from alp_jax.report.runs import ReportRun

# Title with unit, and how to take it from a line of metrics.jsonl or a summary.
_Panel = tuple[str, Callable[[dict[str, Any]], float | None]]


def _percent(name: str) -> Callable[[dict[str, Any]], float | None]:
    def pick(row: dict[str, Any]) -> float | None:
        return None if row.get(name) is None else 100 * row[name]

    return pick


def _discriminator_accuracy(row: dict[str, Any]) -> float | None:
    names = ("discriminator_accuracy/source", "discriminator_accuracy/target")
    return 50 * sum(row[name] for name in names) if all(name in row for name in names) else None


def _named(name: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda row: row.get(name)


_SCALARS: tuple[_Panel, ...] = (
    ("cross-entropy, source (nats)", _named("loss/cross_entropy")),
    ("adversarial loss (nats)", _named("loss/adversarial")),
    ("discriminator's loss (nats)", _named("loss/discriminator")),
    ("discriminator's accuracy (%)", _discriminator_accuracy),
)
_EVALUATIONS: tuple[_Panel, ...] = (
    ("mean IoU (%), uses labels", _percent("mean_iou")),
    ("mean entropy (0 to 1)", _named("mean_entropy")),
    ("soft neighbourhood density (nats)", _named("soft_neighbourhood_density")),
    ("information maximisation (0 to 1)", _named("information_maximisation")),
)


def draw_curves(runs: Sequence[ReportRun]) -> Figure:
    """Draws losses above and scores of the target below, over steps, a line for each run."""
    rows = ((_SCALARS, "scalars"), (_EVALUATIONS, "evaluations"))
    figure = Figure(figsize=(13.0, 5.6), layout="constrained", dpi=110)
    axes = figure.subplots(2, len(_SCALARS))
    for axis_row, (panels, attribute) in zip(axes, rows, strict=True):
        for axis, (title, pick) in zip(axis_row, panels, strict=True):
            _draw_panel(axis, runs, attribute, pick)
            axis.set_title(title, fontsize=10)
            axis.set_xlabel("step")
    handles = [
        axes[0, 0].plot([], [], color=figures.colour(index), label=run.name)[0]
        for index, run in enumerate(runs)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(runs), 6))
    return figure


def _draw_panel(
    axis: Axes,
    runs: Sequence[ReportRun],
    attribute: str,
    pick: Callable[[dict[str, Any]], float | None],
) -> None:
    drawn = False
    for index, run in enumerate(runs):
        points = [(row["step"], pick(row)) for row in getattr(run, attribute)]
        defined = [(step, value) for step, value in points if value is not None]
        if defined:
            drawn = True
            marker = "o" if attribute == "evaluations" else None
            axis.plot(
                *zip(*defined, strict=True),
                color=figures.colour(index),
                marker=marker,
                markersize=3,
                linewidth=1.4,
            )
    if not drawn:
        axis.set_axis_off()
        axis.text(
            0.5, 0.5, "not there: no labels,\nor nothing is aligned", ha="center", va="center"
        )
    figures.tidy(axis, legend=False)
