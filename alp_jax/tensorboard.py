"""What TensorBoard shows of a run, beside its scalars: hyperparameters, settings and pictures.

Only data: `alp_jax.writers` writes them.
"""

from collections.abc import Mapping, Sequence

import ml_collections
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from alp_jax import config, figures, versions
from alp_jax.data.labels import LabelSet

# Parts of the configuration that tell runs apart; the others say where and how often.
_HYPERPARAMETERS = ("seed", "num_steps", "data.", "model.", "discriminator.", "objective.",
                    "optimizer.")  # fmt: skip


def group_scalars(scalars: Mapping[str, float]) -> dict[str, float]:
    """Gives scalars without a group one: what stands before the slash is TensorBoard's section."""
    return {name if "/" in name else f"speed/{name}": value for name, value in scalars.items()}


def hyperparameters(run_config: ml_collections.ConfigDict) -> dict[str, bool | float | str]:
    """Flattens the fields that tell runs apart: {"objective.patch_size": "32, 32", ...}."""
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in config.flatten(run_config).items()
        if name.startswith(_HYPERPARAMETERS)
    }


def describe_run(run_config: ml_collections.ConfigDict) -> str:
    """Writes a table, in Markdown, of versions, commit, machine and every field."""
    rows = [f"| {name} | {value} |" for name, value in versions.describe().items()]
    rows += [f"| config.{name} | {value} |" for name, value in config.flatten(run_config).items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def paint_evaluation(
    panels: Sequence[figures.Panel], confusion: np.ndarray, label_set: LabelSet
) -> dict[str, np.ndarray]:
    """Paints an evaluation: name -> [N, H, W, 3] uint8 RGB.

    Args:
      panels: the images, of one size.
      confusion: [C, C] counts, rows = truth; drawn where anything was counted.
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
