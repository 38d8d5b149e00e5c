"""Local alignment for unsupervised domain adaptation of semantic segmentation, in JAX.

For notebooks and scripts:

  import alp_jax

  alp_jax.set_up_notebook()                       # log lines, compilation cache
  print(alp_jax.describe_devices())
  config = alp_jax.read_config("configs/toy_cities.py", "alp_gi")
  alp_jax.train_and_evaluate(config, "runs/alp")
  alp_jax.evaluate_checkpoint("runs/alp", split="test")
  segmenter = alp_jax.load_segmenter("runs/alp")
  predictions = segmenter.predict([image])

Names are imported lazily, at their first use: `import alp_jax` itself takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from alp_jax.command.cli import set_up_notebook
    from alp_jax.command.configuration import read_config
    from alp_jax.data.labels import load_label_set
    from alp_jax.errors import UserError
    from alp_jax.evaluation.evaluator import evaluate_checkpoint
    from alp_jax.evaluation.folders import predict_to_folder
    from alp_jax.evaluation.prediction import Prediction
    from alp_jax.evaluation.results import print_scores
    from alp_jax.evaluation.segmenter import load_segmenter
    from alp_jax.export.program import export_segmenter
    from alp_jax.report.notebook import (
        describe_devices,
        draw_curves,
        draw_evaluation,
        draw_predictions,
    )
    from alp_jax.report.writing import write_report
    from alp_jax.run.train import train_and_evaluate

__all__ = [
    "Prediction",
    "UserError",
    "describe_devices",
    "draw_curves",
    "draw_evaluation",
    "draw_predictions",
    "evaluate_checkpoint",
    "export_segmenter",
    "load_label_set",
    "load_segmenter",
    "predict_to_folder",
    "print_scores",
    "read_config",
    "set_up_notebook",
    "train_and_evaluate",
    "write_report",
]

_MODULES = {
    "alp_jax.command.cli": ("set_up_notebook",),
    "alp_jax.command.configuration": ("read_config",),
    "alp_jax.data.labels": ("load_label_set",),
    "alp_jax.errors": ("UserError",),
    "alp_jax.evaluation.evaluator": ("evaluate_checkpoint",),
    "alp_jax.export.program": ("export_segmenter",),
    "alp_jax.evaluation.prediction": ("Prediction",),
    "alp_jax.evaluation.segmenter": ("load_segmenter",),
    "alp_jax.report.notebook": (
        "describe_devices", "draw_curves", "draw_evaluation", "draw_predictions",
    ),
    "alp_jax.evaluation.folders": ("predict_to_folder",),
    "alp_jax.evaluation.results": ("print_scores",),
    "alp_jax.report.writing": ("write_report",),
    "alp_jax.run.train": ("train_and_evaluate",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
