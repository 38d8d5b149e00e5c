"""The scores of a checkpoint, as they are kept in the workdir.

Synopsis:

  result.save(workdir)     # evaluation/step_500.json, step_500_confusion.npy, step_500.png
  summary = read_summary(workdir, 500, config.evaluation)
"""

import dataclasses
import json
import pathlib
from typing import Any

import ml_collections
import numpy as np

from alp_jax import checkpoint, figures, files, processes, tensorboard
from alp_jax.data.labels import LabelSet
from alp_jax.errors import UserError, describe

FOLDER = checkpoint.EVALUATION_FOLDER


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of one checkpoint on one split.

    Attributes:
      summary: what `step_N.json` holds.
      confusion: [C, C] int64 pixels, rows = truth.
      panels: the chosen images with prediction, label and entropy.
      label_set: the C classes.
      stem: file name without its ending.
    """

    summary: dict[str, Any]
    confusion: np.ndarray
    panels: list[figures.Panel]
    label_set: LabelSet
    stem: str

    def save(self, workdir: pathlib.Path) -> pathlib.Path:
        """Writes the three files into `workdir/evaluation`; returns the JSON's path, the last.

        Raises:
          UserError: if they cannot be written.
        """
        folder = workdir / FOLDER
        path = folder / f"{self.stem}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{self.stem}_confusion.npy", self.confusion)
            figures.save_sheet(folder / f"{self.stem}.png", self.panels, self.label_set)
            files.write_text(path, json.dumps(self.summary, indent=2) + "\n")
        except OSError as error:
            raise UserError(
                f"The evaluation of step {self.summary['step']} cannot be written in {folder} "
                f"({describe(error)}): free some space there or make it writable."
            ) from error
        return path

    def in_one_line(self) -> str:
        """Says the mean IoU, or, without labels, the criteria that need none."""
        summary = self.summary
        if summary["mean_iou"] is not None:
            said = f"mean IoU {100 * summary['mean_iou']:.2f} %"
        else:
            said = (
                f"mean entropy {summary['mean_entropy']:.4f}, information maximisation "
                f"{summary['information_maximisation']:.4f}, no labels"
            )
        return f"{said}: {summary['dataset']} {summary['split']}"

    def paint(self) -> dict[str, np.ndarray]:
        """Paints panels and confusion for TensorBoard: name -> [N, H, W, 3] uint8 RGB."""
        return tensorboard.paint_evaluation(self.panels, self.confusion, self.label_set)


def read_summary(
    workdir: pathlib.Path, step: int, evaluation: ml_collections.ConfigDict
) -> dict[str, Any] | None:
    """Reads the scores of a step on the dataset and split of `config.evaluation`, or None."""
    path = checkpoint.summary_path(workdir, step)
    if not path.exists():
        return None
    summary = json.loads(path.read_text())
    same = (summary["dataset"], summary["split"]) == (evaluation.dataset, evaluation.split)
    return summary if same else None


def lacks_summary(workdir: pathlib.Path, step: int, evaluation: ml_collections.ConfigDict) -> bool:
    """Whether a step has not been evaluated; of many processes all get the same answer."""
    found = processes.from_primary(lambda: int(read_summary(workdir, step, evaluation) is None))
    return bool(found)


def read_summaries(
    workdir: pathlib.Path, run_config: ml_collections.ConfigDict
) -> list[dict[str, Any]]:
    """Reads the scores of all steps that training evaluated, in order."""
    evaluation = run_config.evaluation
    own = (evaluation.dataset, evaluation.split)
    summaries = [json.loads(path.read_text()) for path in (workdir / FOLDER).glob("step_*.json")]
    ours = {s["step"]: s for s in summaries if (s["dataset"], s["split"]) == own}
    return [ours[step] for step in sorted(ours) if step <= run_config.num_steps]
