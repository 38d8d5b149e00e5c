"""Draws predictions and entropy of several runs on the same images: Figures 4, 5 and 6.

Synopsis:

  panels = predict(run, dataset, split, count=4)
  figure = draw_predictions({"source-only": panels, "ours": other_panels}, label_set)
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from alp_jax.data import pipeline
from alp_jax.data.labels import IGNORE_LABEL, LabelSet
from alp_jax.evaluation import evaluator
from alp_jax.evaluation.ensemble import load_ensemble
from alp_jax.evaluation.eval_step import eval_step
from alp_jax.evaluation.figures import ENTROPY_COLOURS, Panel, class_handles, legend_columns
from alp_jax.evaluation.predictor import Recipe
from alp_jax.report.runs import ReportRun

_WIDTH = 3.0  # Width of a picture, inches.


def predict(run: ReportRun, dataset: str, split: str, *, count: int) -> list[Panel]:
    """Predicts `count` evenly spaced images of a split with the last checkpoint of a run.

    Other images are not read.

    Raises:
      UserError: if the dataset, split or checkpoint does not exist.
    """
    batches, num_images = pipeline.create_eval_batches(
        run.settings.data, dataset=dataset, split=split, batch_size=1, label_set=run.label_set
    )
    ensemble = load_ensemble(run.workdir, "latest", recipe=Recipe())
    step_fn = jax.jit(
        functools.partial(
            eval_step, predictor=ensemble.predictor, num_classes=run.label_set.num_classes
        )
    )
    chosen = np.linspace(0, num_images - 1, min(count, num_images)).round().astype(int)
    panels = []
    for index in chosen:
        batch = batches[int(index)]
        outputs = step_fn(ensemble.variables, batch["images"], batch["labels"], batch["mask"])
        panels.append(evaluator.make_panel(batch, outputs, 0))
    return panels


def draw_predictions(panels: Mapping[str, Sequence[Panel]], label_set: LabelSet) -> Figure:
    """Draws a column for each image: image, prediction of each run, and label if there is one.

    Args:
      panels: name of a run -> its panels; all runs show the same images.
      label_set: the classes.
    """
    first = next(iter(panels.values()))
    rows = {"image": [panel.image for panel in first]}
    for name, of_run in panels.items():
        rows[name] = [label_set.colourise(panel.prediction) for panel in of_run]
    labels = np.stack([panel.label for panel in first])
    if (labels != IGNORE_LABEL).any():
        rows["label"] = [label_set.colourise(label) for label in labels]
    figure, axes = _create_grid(rows, [panel.name for panel in first], extra_height=0.8)
    for axis_row, pictures in zip(axes, rows.values(), strict=True):
        for axis, picture in zip(axis_row, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
    handles = class_handles(label_set, not_evaluated=bool((labels == IGNORE_LABEL).any()))
    columns = legend_columns(handles, 9)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )
    return figure


def draw_entropy(
    source: Mapping[str, Sequence[Panel]], target: Mapping[str, Sequence[Panel]]
) -> Figure:
    """Draws pairs of source and target images, and below each image the entropy of each run.

    Args:
      source, target: name of a run -> its panels; all runs show the same images of a domain.
    """
    pairs = {
        name: [panel for pair in zip(source[name], target[name], strict=False) for panel in pair]
        for name in source
    }
    first = next(iter(pairs.values()))
    titles = [f"{('source', 'target')[i % 2]}: {panel.name}" for i, panel in enumerate(first)]
    rows = {"image": first, **{f"entropy, {name}": found for name, found in pairs.items()}}
    figure, axes = _create_grid(rows, titles, extra_height=0.6, caption_height=0.22)
    norm = Normalize(0.0, 1.0)
    for axis_row, (row, panels) in zip(axes, rows.items(), strict=True):
        for axis, panel in zip(axis_row, panels, strict=True):
            if row == "image":
                axis.imshow(panel.image, interpolation="nearest")
            else:
                axis.imshow(panel.entropy, cmap=ENTROPY_COLOURS, norm=norm)
                axis.set_xlabel(f"mean {panel.entropy.mean():.3f}", fontsize=8)
    bar = figure.colorbar(
        ScalarMappable(norm, ENTROPY_COLOURS), ax=axes, location="bottom", shrink=0.4, aspect=40
    )
    bar.set_label("entropy of the prediction (1: uniform)", fontsize=9)
    return figure


def _create_grid(
    rows: Mapping[str, Sequence[object]],
    titles: Sequence[str],
    *,
    extra_height: float,
    caption_height: float = 0.0,
) -> tuple[Figure, np.ndarray]:
    """Creates axes without ticks, with names of rows on the left and titles of columns on top."""
    image = next(iter(rows.values()))[0]
    array = image.image if isinstance(image, Panel) else np.asarray(image)
    height = _WIDTH * array.shape[0] / array.shape[1] + 0.08 + caption_height
    figure = Figure(
        figsize=(_WIDTH * len(titles) + 0.4, height * len(rows) + 0.3 + extra_height),
        layout="constrained",
        dpi=100,
    )
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for axis_row, name in zip(axes, rows, strict=True):
        axis_row[0].set_ylabel(name, fontsize=9)
        for axis in axis_row:
            _strip(axis)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    return figure, axes


def _strip(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
