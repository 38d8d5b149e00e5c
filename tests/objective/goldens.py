"""What the steps of methods are compared with: the PyTorch reference, or else a stored golden.

  python -m tests.objective.goldens      # writes the goldens anew

train_states.json has the paths and shapes of every method's state, which decide whether a
checkpoint can be continued. scalars.json has what three steps of a method log, for methods with
views or terms that the PyTorch reference lacks.
"""

import json
import pathlib
from typing import Any

import numpy as np

from configs import default
from tests import torch_run
from tests.objective import methods
from tests.objective.methods import CompiledMethod, Scalars
from tests.torch_run import SEGMENTER

COMMAND = "python -m tests.objective.goldens"
STATES = pathlib.Path(__file__).with_name("train_states.json")
SCALARS = pathlib.Path(__file__).with_name("scalars.json")


def expect_scalars(name: str, method: CompiledMethod) -> list[Scalars] | None:
    """Returns what each step should log; None without a reference and without a golden."""
    try:
        return compute_scalars(method)
    except torch_run.NotCoveredError:
        return json.loads(SCALARS.read_text()).get(name)


def compute_scalars(method: CompiledMethod) -> list[Scalars]:
    """Computes what each step logs by the PyTorch reference, in double precision.

    Raises:
      NotCoveredError: if the reference lacks something.
    """
    reference = torch_run.Reference(method.settings, method.start, np.float64)
    scalars = []
    for step in range(methods.NUM_STEPS):
        losses = {f"loss/{k}": v for k, v in reference.step(method.batch, methods.RNG).items()}
        accuracies = reference.accuracies.items()
        scalars.append(
            losses
            | {f"discriminator_accuracy/{name}": value for name, value in accuracies}
            | _compute_norms(reference)
            | _compute_rates(method, step)
        )
    return scalars


def _compute_norms(reference: torch_run.Reference) -> Scalars:
    """Computes the norms of gradients, parameters and statistics, by player."""
    tensors, gradients = reference.tensors(), reference.gradients
    segmenter = tensors.pop(SEGMENTER)
    statistics = [name for name in segmenter if ".running_" in name]
    norms = {
        "gradient_norm/segmenter": _norm(gradients[SEGMENTER].values()),
        "parameter_norm/segmenter": _norm(v for k, v in segmenter.items() if k not in statistics),
        "statistics_norm/segmenter": _norm(segmenter[name] for name in statistics),
    }
    if tensors:
        kinds = {"gradient_norm": gradients, "parameter_norm": tensors}
        for kind, players in kinds.items():
            arrays = [array for player in tensors for array in players[player].values()]
            norms[f"{kind}/discriminator"] = _norm(arrays)
    return norms


def _norm(arrays: Any) -> float:
    return float(np.sqrt(sum(np.sum(np.square(array)) for array in arrays)))


def _compute_rates(method: CompiledMethod, step: int) -> Scalars:
    optimizer = method.settings.optimizer
    decay = (1 - step / optimizer.horizon_steps) ** optimizer.poly_power
    rates = {"learning_rate/segmenter": decay * optimizer.segmenter_learning_rate}
    if method.setup.objective.owners:
        rates["learning_rate/discriminator"] = decay * optimizer.discriminator_learning_rate
    return rates


def describe_states() -> dict[str, dict[str, str]]:
    """Describes the states of all methods; methods with the same state share an entry."""
    shared: dict[str, list[str]] = {}
    for name in default.list_methods():
        shared.setdefault(json.dumps(methods.describe_state(name)), []).append(name)
    return {", ".join(names): json.loads(text) for text, names in shared.items()}


def main() -> None:
    """Writes both files."""
    STATES.write_text(json.dumps(describe_states(), indent=1) + "\n")
    found = {}
    for name in default.list_methods():
        method = methods.compile_method(name)
        try:
            torch_run.create_torch_settings(method.settings)
        except torch_run.NotCoveredError:
            found[name] = method.run.scalars
    SCALARS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
