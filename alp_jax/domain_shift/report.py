"""Summarises the curves of the experiment, and writes them with their summary to files.

Synopsis:

  result = summarise(settings, curves)
  save(result, output)       # domain_shift.csv, .json, .png
"""

import csv
import dataclasses
import io
import json
import math
import pathlib
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from alp_jax.command import versions
from alp_jax.domain_shift import advice
from alp_jax.domain_shift.advice import PatchSummary, describe_patch, patch_name
from alp_jax.domain_shift.settings import ShiftSettings
from alp_jax.evaluation import figures
from alp_jax.settings.schema import to_config
from alp_jax.workdir import files

__all__ = ["Curve", "Point", "Report", "describe_patch", "patch_name", "save", "summarise"]

FILE_STEM = "domain_shift"
# Most validations to average: with a fixed learning rate, a single one fluctuates.
FINAL_VALIDATIONS = 3


@dataclasses.dataclass(frozen=True)
class Point:
    """One validation; errors are shares of wrong decisions in [0, 1], the loss is in nats.

    Attributes:
      step: number of updates before the validation.
      validation_error: mean of both domains' errors; both domains have equally many maps.
      source_error, target_error: share of source maps called target, and the other way round.
      train_loss: mean loss since the previous validation.
    """

    step: int
    validation_error: float
    source_error: float
    target_error: float
    train_loss: float


@dataclasses.dataclass(frozen=True)
class Curve:
    """One training: a patch size (side in pixels, None for whole maps) and a run, from 0."""

    patch_size: int | None
    run: int
    seconds: float
    points: tuple[Point, ...]

    def to_json(self) -> str:
        """Formats the curve as JSON."""
        return files.to_json(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Curve":
        """Reads the text of `to_json`; raises ValueError, TypeError or KeyError for other text."""
        fields = json.loads(text)
        points = tuple(Point(**point) for point in fields.pop("points"))
        return cls(**fields, points=points)

    def final_error(self) -> float:
        """Averages the last quarter of the validations, at most FINAL_VALIDATIONS, at least one."""
        return float(np.mean([p.validation_error for p in self._final_points()]))

    def is_constant(self) -> bool:
        """Returns whether all maps got the same answer in each of those validations."""
        errors = [{p.source_error, p.target_error} for p in self._final_points()]
        return all(found == {0.0, 1.0} for found in errors)

    def _final_points(self) -> tuple[Point, ...]:
        count = max(1, min(FINAL_VALIDATIONS, len(self.points) // 4))
        return self.points[-count:]

    def steps_to(self, error: float) -> int | None:
        """Returns the first validated step with at most this error, or None."""
        return next((p.step for p in self.points if p.validation_error <= error), None)


@dataclasses.dataclass(frozen=True)
class Report:
    """Content of the files; curves are in the order of patch size (whole maps first) and run."""

    settings: dict[str, Any]
    curves: tuple[Curve, ...]
    summaries: tuple[PatchSummary, ...]
    advice: str


def summarise(settings: ShiftSettings, curves: list[Curve]) -> Report:
    """Averages the runs of every patch size, and derives the advice; runs may be missing."""

    def order(curve: Curve) -> tuple[float, int]:
        return -(math.inf if curve.patch_size is None else curve.patch_size), curve.run

    ordered = tuple(sorted(curves, key=order))
    summaries = []
    for patch_size in dict.fromkeys(curve.patch_size for curve in ordered):
        runs = [curve for curve in ordered if curve.patch_size == patch_size]
        errors = [curve.final_error() for curve in runs]
        summaries.append(
            PatchSummary(
                patch_size=patch_size,
                final_error=float(np.mean(errors)),
                final_error_std=float(np.std(errors, ddof=1)) if len(errors) > 1 else None,
                steps_to_20_percent=tuple(curve.steps_to(0.2) for curve in runs),
                is_constant=all(curve.is_constant() for curve in runs),
            )
        )
    sentence = advice.advise(summaries, num_steps=settings.num_steps, size=settings.data.size)
    return Report(to_config(settings).to_dict(), ordered, tuple(summaries), sentence)


def save(result: Report, output: pathlib.Path) -> None:
    """Writes domain_shift.csv, domain_shift.json and domain_shift.png."""
    files.write_text(output / f"{FILE_STEM}.csv", _to_csv(result.curves))
    files.write_json(output / f"{FILE_STEM}.json", _describe(result), indent=2)
    _save_figure(result, output / f"{FILE_STEM}.png")


def _to_csv(curves: tuple[Curve, ...]) -> str:
    """Formats one line for each validation; errors in [0, 1]."""
    text = io.StringIO()
    names = [field.name for field in dataclasses.fields(Point)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["patch_size", "run", *names])
    for curve in curves:
        for point in curve.points:
            values = [f"{value:.6g}" for value in dataclasses.astuple(point)]
            writer.writerow([patch_name(curve.patch_size), curve.run, *values])
    return text.getvalue()


def _describe(result: Report) -> dict[str, Any]:
    """Returns the content of domain_shift.json."""
    summary = {
        patch_name(s.patch_size): {
            "final_error": s.final_error,
            "final_error_std": s.final_error_std,
            "steps_to_20_percent": s.steps_to_20_percent,
        }
        for s in result.summaries
    }
    return {
        "advice": result.advice,
        "summary": summary,
        "seconds": sum(curve.seconds for curve in result.curves),
        "settings": result.settings,
        "versions": versions.describe(),
    }


def _save_figure(result: Report, path: pathlib.Path) -> None:
    """Draws the paper's Figure 1: mean error of every patch size, standard deviation shaded."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained", dpi=150)
    axis = figure.subplots()
    shades = colormaps["viridis"](np.linspace(0.0, 0.85, len(result.summaries)))
    data = result.settings["data"]
    for shade, summary in zip(shades, result.summaries, strict=True):
        curves = [c for c in result.curves if c.patch_size == summary.patch_size]
        steps = [point.step for point in curves[0].points]
        errors = 100 * np.array([[p.validation_error for p in c.points] for c in curves])
        mean = errors.mean(axis=0)
        label = describe_patch(summary.patch_size)
        axis.plot(steps, mean, color=shade, linewidth=1.8, label=label, marker="o", markersize=3)
        if len(curves) > 1:
            deviation = errors.std(axis=0, ddof=1)
            axis.fill_between(
                steps, mean - deviation, mean + deviation, color=shade, alpha=0.2, linewidth=0
            )
    axis.axhline(50, color="0.45", linewidth=1, linestyle="--", label="chance")
    axis.set_xlim(left=0)
    axis.set_ylim(0, max(60, axis.get_ylim()[1]))
    axis.set_xlabel("training iterations")
    axis.set_ylabel("validation error of the domain classifier (%)")
    axis.set_title(f"{data['source']} \N{RIGHTWARDS ARROW} {data['target']}", fontsize=10)
    figures.tidy(axis, legend=False)
    # In the order of the curves, from chance down to whole maps.
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], loc="outside right center", frameon=False, fontsize=9
    )
    figures.save(figure, path)


def print_summary(result: Report) -> None:
    """Prints the final error of every patch size, in percent."""
    table = Table("label maps", "error %", "steps to 20 %")
    for column in table.columns[1:]:
        column.justify = "right"
    for summary in result.summaries:
        steps = ", ".join("-" if s is None else str(s) for s in summary.steps_to_20_percent)
        table.add_row(describe_patch(summary.patch_size), summary.describe_error(), steps)
    Console().print(table)
