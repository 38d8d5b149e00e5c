"""Prepares scalars, hyperparameters and a description of a run for TensorBoard.

`alp_jax.workdir.writers` writes them.
"""

from collections.abc import Mapping

from alp_jax.command import versions
from alp_jax.settings.compare import flatten
from alp_jax.settings.schema import to_config
from alp_jax.workdir.settings import RunSettings

# Parts of the configuration that distinguish runs; the others say where and how often to write.
_HYPERPARAMETERS = ("seed", "num_steps", "data.", "model.", "views.", "terms.", "optimizer.")


def group_scalars(scalars: Mapping[str, float]) -> dict[str, float]:
    """Adds the group "speed/" to scalars without one; TensorBoard shows a section per group."""
    return {name if "/" in name else f"speed/{name}": value for name, value in scalars.items()}


def hyperparameters(settings: RunSettings) -> dict[str, bool | float | str]:
    """Flattens the fields that distinguish runs: {"data.source_size": "720, 1280", ...}."""
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in flatten(to_config(settings)).items()
        if name.startswith(_HYPERPARAMETERS)
    }


def describe_run(settings: RunSettings) -> str:
    """Returns a Markdown table of versions, commit, machine and every field."""
    rows = [f"| {name} | {value} |" for name, value in versions.describe().items()]
    rows += [f"| config.{name} | {value} |" for name, value in flatten(to_config(settings)).items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])
