"""Draws pictures: a sheet of images with prediction, label and entropy, and the confusion matrix.

Synopsis:

  save_sheet(path, panels, label_set)
"""

import dataclasses
import io
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from alp_jax.data.labels import IGNORE_LABEL, LabelSet

ENTROPY_COLOURS = "viridis"  # Purple (low) to yellow (high), as in the paper's Figure 6.
COLUMNS = ("image", "prediction", "label", "entropy")
# Okabe and Ito, "Color Universal Design", 2008: safe for the colour-blind, on light and dark pages.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
MARKERS = "osD^vP*"  # Distinguish curves in addition to their colours.
_LEGEND_NAME = 14  # Characters of a name that a column of a legend has room for.
_CONFUSION_CLASSES = 24  # Classes that a confusion matrix of the usual size has room for.


def _style(ink: str, paper: str, grid: str) -> dict[str, Any]:
    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(inks, ink),
        "figure.facecolor": paper,
        "axes.facecolor": paper,
        "savefig.facecolor": paper,
        "grid.color": grid,
        "axes.axisbelow": True,
    }


_STYLES: dict[str, Any] = {
    "light": _style("#1f2328", "#ffffff", "#e4e7eb"),
    "dark": _style("#d6dbe1", "#16191d", "#343a41"),
}


@dataclasses.dataclass(frozen=True)
class Panel:
    """One image with its prediction, label and entropy.

    Attributes:
      name: name of the image.
      image: [H, W, 3] uint8 RGB.
      prediction: [H, W] uint8 train ids.
      label: [H, W] uint8 train ids or IGNORE_LABEL.
      entropy: [H, W] float in [0, 1].
    """

    name: str
    image: np.ndarray
    prediction: np.ndarray
    label: np.ndarray
    entropy: np.ndarray

    def columns(self, label_set: LabelSet) -> dict[str, np.ndarray]:
        """Paints the panel: column -> [H, W, 3] uint8 RGB; ignored labels as in the legend."""
        return {
            "image": self.image,
            "prediction": label_set.colourise(self.prediction),
            "label": label_set.colourise(self.label),
            "entropy": colour_entropy(self.entropy),
        }


def colour_entropy(entropy: np.ndarray) -> np.ndarray:
    """Paints entropy from purple (0) to yellow (1): [H, W] -> [H, W, 3] uint8 RGB."""
    painted = colormaps[ENTROPY_COLOURS](np.clip(entropy, 0.0, 1.0), bytes=True)
    return np.asarray(painted)[..., :3]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure as two PNGs, for light and for dark pages."""

    light: bytes
    dark: bytes


def draw_panels(panels: Sequence[Panel], label_set: LabelSet) -> Figure:
    """Draws one row per panel, and a legend of the classes."""
    rows = [
        {
            "entropy (0 to 1)" if title == "entropy" else title: picture
            for title, picture in panel.columns(label_set).items()
        }
        for panel in panels
    ]
    not_evaluated = any((panel.label == IGNORE_LABEL).any() for panel in panels)
    return draw_sheet(rows, class_handles(label_set, not_evaluated=not_evaluated))


def draw_sheet(rows: Sequence[Mapping[str, np.ndarray]], handles: list[Patch]) -> Figure:
    """Draws rows of pictures side by side, and a legend.

    Args:
      rows: {title of a column: picture [H, W, 3]} for each row. All rows have the same titles, and
        the pictures of one row have the same size.
      handles: entries of the legend.
    """
    columns = legend_columns(handles, 9)
    width, gap, title_height = 3.2, 0.08, 0.3  # Inches.
    legend_rows = math.ceil(len(handles) / columns)
    legend_height = max(0.75, 0.25 * legend_rows) if legend_rows > 1 else 0.35
    heights = [width * height / across for height, across, _ in map(_first_shape, rows)]
    across = width * len(rows[0])
    total = title_height + sum(heights) + gap * len(rows) + legend_height
    figure = Figure(figsize=(across, total), dpi=100)
    # A fixed layout: matplotlib's automatic layout would take longer than drawing.
    axes = figure.subplots(
        len(rows),
        len(rows[0]),
        squeeze=False,
        height_ratios=heights,
        gridspec_kw={
            "left": gap / across,
            "right": 1 - gap / across,
            "top": 1 - title_height / total,
            "bottom": (legend_height + gap) / total,
            "wspace": gap / width,
            "hspace": gap * len(rows) / sum(heights),
        },
    )
    for index, (axis_row, row) in enumerate(zip(axes, rows, strict=True)):
        for axis, (title, picture) in zip(axis_row, row.items(), strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
            if index == 0:
                axis.set_title(title)
    figure.legend(handles=handles, loc="lower center", ncols=columns, fontsize=8, frameon=False)
    return figure


def _first_shape(row: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    return next(iter(row.values())).shape


def save_sheet(path: pathlib.Path, panels: Sequence[Panel], label_set: LabelSet) -> None:
    """Writes the figure of `draw_panels` as a PNG."""
    save(draw_panels(panels, label_set), path)


def class_handles(label_set: LabelSet, *, not_evaluated: bool) -> list[Patch]:
    """Creates the entries of a legend: every class, and optionally the ignored labels."""
    entries = [(scene.name, scene.colour) for scene in label_set.classes]
    if not_evaluated:
        entries.append(("not evaluated", label_set.ignored_colour))
    return [Patch(facecolor=f"#{bytes(c).hex()}", label=name) for name, c in entries]


def legend_columns(handles: Sequence[Patch], most: int) -> int:
    """Returns how many columns a legend may have: fewer than `most` where names are long."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    return max(1, min(most, most * _LEGEND_NAME // longest))


def draw_confusion(confusion: np.ndarray, label_set: LabelSet, title: str) -> Figure:
    """Draws a confusion matrix with logarithmic colours, purple to yellow; 0 is grey (Figure 7).

    Args:
      confusion: [C, C] pixel counts, rows = truth.
      label_set: the C classes.
      title: title of the figure.
    """
    scale = max(1.0, label_set.num_classes / _CONFUSION_CLASSES)
    figure = Figure(figsize=(7.4 * scale, 6.6 * scale), layout="constrained", dpi=110)
    axis = figure.subplots()
    colours = colormaps["viridis"].with_extremes(bad="0.6")
    highest = max(int(confusion.max()), 2)
    picture = axis.imshow(
        np.ma.masked_equal(confusion, 0), cmap=colours, norm=LogNorm(1, highest), aspect="equal"
    )
    places = range(label_set.num_classes)
    axis.set_xticks(places, label_set.names, rotation=90)
    axis.set_yticks(places, label_set.names)
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    axis.set_title(title, fontsize=10)
    bar = figure.colorbar(picture, ax=axis, shrink=0.8)
    bar.set_label("pixels (logarithmic; grey: none)")
    return figure


def render(draw: Callable[[], Figure]) -> Picture:
    """Renders a figure in a light and a dark style.

    Args:
      draw: creates the figure, without colours for text, axes and background; called twice.
    """
    pngs = {}
    for name, style in _STYLES.items():
        with matplotlib.rc_context(style):
            buffer = io.BytesIO()
            draw().savefig(buffer, format="png")
            pngs[name] = buffer.getvalue()
    return Picture(**pngs)


def save(figure: Figure, path: pathlib.Path) -> None:
    """Writes a figure as a PNG atomically, replacing an existing file."""
    temporary = path.with_name(f"{path.name}.tmp")
    figure.savefig(temporary, format="png")
    temporary.replace(path)


def colour_of_curve(index: int) -> str:
    """Returns the colour of curve number `index`, from 0; the seven colours repeat."""
    return _COLOURS[index % len(_COLOURS)]


def draw_seeds(axis: Axes, place: float, scores: Sequence[float], colour: str) -> None:
    """Draws each seed's score as a faint dot."""
    axis.plot([place] * len(scores), scores, ".", color=colour, alpha=0.35, markersize=5)


def tidy(axis: Axes, *, legend: bool = True) -> None:
    """Styles a plot: a faint grid, two spines, and a legend without a frame."""
    axis.grid(visible=True, alpha=0.4)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    if legend:
        axis.legend(frameon=False, fontsize=9)
