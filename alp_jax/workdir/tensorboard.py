"""Prepares what TensorBoard shows of a run beside its scalars: hyperparameters and settings.

Only data: `alp_jax.workdir.writers` writes them.
"""

from collections.abc import Mapping

from alp_jax.command import versions
from alp_jax.settings.compare import flatten
from alp_jax.settings.schema import to_config
from alp_jax.workdir.settings import RunSettings

# Parts of the configuration that tell runs apart; the others say where and how often.
_HYPERPARAMETERS = ("seed", "num_steps", "data.", "model.", "views.", "terms.", "optimizer.")


def group_scalars(scalars: Mapping[str, float]) -> dict[str, float]:
    """Gives scalars without a group one: what stands before the slash is TensorBoard's section."""
    return {name if "/" in name else f"speed/{name}": value for name, value in scalars.items()}


def hyperparameters(settings: RunSettings) -> dict[str, bool | float | str]:
    """Flattens the fields that tell runs apart: {"data.target_size": "64, 128", ...}."""
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else value
        for name, value in flatten(to_config(settings)).items()
        if name.startswith(_HYPERPARAMETERS)
    }


def describe_run(settings: RunSettings) -> str:
    """Writes a table, in Markdown, of versions, commit, machine and every field."""
    rows = [f"| {name} | {value} |" for name, value in versions.describe().items()]
    rows += [f"| config.{name} | {value} |" for name, value in flatten(to_config(settings)).items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])
