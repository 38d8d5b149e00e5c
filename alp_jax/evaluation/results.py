"""Saves the scores and pictures of a checkpoint in the workdir, and prints them.

Synopsis:

  result.save(workdir)     # evaluation/step_500.json, step_500_confusion.npy, step_500.png
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console
from rich.table import Table

from alp_jax.data.labels import LabelSet
from alp_jax.errors import UserError, describe
from alp_jax.evaluation import figures
from alp_jax.evaluation.metrics import name_means
from alp_jax.workdir import files, scores


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of one checkpoint on one split.

    Attributes:
      summary: content of `step_N.json`.
      confusion: [C, C] int64 pixels, rows = truth.
      panels: selected images with prediction, label and entropy.
      label_set: the C classes.
      stem: file name without extension.
    """

    summary: dict[str, Any]
    confusion: np.ndarray
    panels: list[figures.Panel]
    label_set: LabelSet
    stem: str

    def save(self, workdir: pathlib.Path) -> pathlib.Path:
        """Writes confusion, pictures and, last, the JSON into `workdir/evaluation`.

        Returns:
          the path of the JSON.
        Raises:
          UserError: if a file cannot be written.
        """
        folder = workdir / scores.FOLDER
        path = folder / f"{self.stem}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{self.stem}_confusion.npy", self.confusion)
            figures.save_sheet(folder / f"{self.stem}.png", self.panels, self.label_set)
            files.write_json(path, self.summary, indent=2)
        except OSError as error:
            raise UserError(
                f"The evaluation of step {self.summary['step']} cannot be written in {folder} "
                f"({describe(error)}): free some space there or make it writable."
            ) from error
        return path

    def in_one_line(self) -> str:
        """Returns the mean IoU as text; without labelled pixels, two label-free criteria."""
        summary = self.summary
        if summary["mean_iou"] is not None:
            said = f"mean IoU {100 * summary['mean_iou']:.2f} %"
        else:
            said = (
                f"mean entropy {summary['mean_entropy']:.4f}, information maximisation "
                f"{summary['information_maximisation']:.4f}, no labelled pixel"
            )
        return f"{said}: {summary['dataset']} {summary['split']}"

    def paint(self) -> dict[str, np.ndarray]:
        """Paints panels and confusion for TensorBoard: name -> [N, H, W, 3] uint8 RGB."""
        return paint_evaluation(self.panels, self.confusion, self.label_set)


def paint_evaluation(
    panels: Sequence[figures.Panel], confusion: np.ndarray, label_set: LabelSet
) -> dict[str, np.ndarray]:
    """Paints an evaluation: name -> [N, H, W, 3] uint8 RGB.

    Args:
      panels: images of equal size.
      confusion: [C, C] counts, rows = truth; drawn unless all counts are 0.
      label_set: the C classes.
    """
    painted = [panel.columns(label_set) for panel in panels]
    pictures = {
        f"evaluation/{column}": np.stack([columns[column] for columns in painted])
        for column in figures.COLUMNS
    }
    if confusion.any():
        canvas = FigureCanvasAgg(figures.draw_confusion(confusion, label_set, "confusion"))
        canvas.draw()
        pictures["evaluation/confusion"] = np.asarray(canvas.buffer_rgba())[None, ..., :3]
    return pictures


def print_scores(summary: Mapping[str, Any]) -> None:
    """Prints the IoU of every class and their means, in percent."""
    table = Table("class", "IoU %")
    table.columns[1].justify = "right"
    for name, iou in summary["iou_per_class"].items():
        table.add_row(name, _percent(iou))
    table.add_section()
    for key, name in name_means(summary).items():
        table.add_row(name, _percent(summary[key]))
    table.add_row("pixel accuracy", _percent(summary["pixel_accuracy"]))
    print(
        f"{summary['dataset']} {summary['split']}, {summary['num_images']} images, "
        f"step {summary['step']}:"
    )
    Console().print(table)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
