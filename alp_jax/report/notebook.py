"""Shows devices, learning curves, evaluations and predictions in a notebook."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import jax
from matplotlib.figure import Figure

from alp_jax.devices import summary
from alp_jax.errors import UserError
from alp_jax.evaluation import figures
from alp_jax.evaluation.prediction import Prediction
from alp_jax.evaluation.results import Evaluation


def describe_devices() -> str:
    """Describes JAX's devices, and says how to get a GPU or TPU if the machine has none."""
    if jax.local_devices()[0].platform != "cpu" or summary.unused_accelerators():
        return summary.summarise_devices()
    return (
        f"{summary.summarise_devices()} That is enough for the built-in cities. Full-size training "
        "needs a GPU or a TPU: in Colab choose Runtime, Change runtime type, then run everything "
        "again."
    )


def draw_curves(workdirs: Mapping[str, str | os.PathLike[str]]) -> Figure:
    """Draws losses and scores of runs over steps.

    Args:
      workdirs: name of a run -> its workdir.
    Raises:
      UserError: if a workdir holds no run, or the runs cannot be compared.
    """
    from alp_jax.report import charts, runs  # These import JAX.

    paths = {name: pathlib.Path(path).expanduser() for name, path in workdirs.items()}
    return charts.draw_curves(runs.read_runs(paths))


def draw_evaluation(evaluation: Evaluation) -> Figure:
    """Draws images of an evaluation with prediction, label and entropy."""
    return figures.draw_panels(evaluation.panels, evaluation.label_set)


def draw_predictions(predictions: Sequence[Prediction]) -> Figure:
    """Draws images, their predicted classes, the classes over the images, and entropy.

    Raises:
      UserError: if there is no prediction.
    """
    if not predictions:
        raise UserError("There is no prediction to draw: give at least one.")
    rows = [
        {
            "image": prediction.image,
            "prediction": prediction.colour(),
            "both": prediction.overlay(),
            "entropy (0 to 1)": prediction.entropy_colour(),
        }
        for prediction in predictions
    ]
    label_set = predictions[0].label_set
    return figures.draw_sheet(rows, figures.class_handles(label_set, not_evaluated=False))
