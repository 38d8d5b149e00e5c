"""Starts what terms own, such as discriminators, from the weights that a run starts from.

Synopsis:

  own = take(settings, train_state.discriminator, checkpoints, step)
"""

import dataclasses
import logging
from collections.abc import Collection
from typing import Any

import jax

from alp_jax.errors import UserError
from alp_jax.objective.state import DiscriminatorState
from alp_jax.workdir import finite
from alp_jax.workdir.checkpoint import Checkpoints
from alp_jax.workdir.settings import RunSettings

logger = logging.getLogger(__name__)


def take(
    settings: RunSettings, entry: DiscriminatorState | None, checkpoints: Checkpoints, step: int
) -> DiscriminatorState | None:
    """Replaces what terms own by that of a checkpoint, where `init_terms` is "same".

    A term that the checkpoint holds nothing of keeps its initial values; so does the optimizer.

    Args:
      settings: settings of the run.
      entry: the initial state; None if no term owns parameters.
      checkpoints: checkpoints of the workdir in `init_from`.
      step: a saved step.
    Raises:
      UserError: if the checkpoint holds nothing of any term, or has it in another shape.
    """
    if settings.init_terms == "new" or entry is None:
        return entry
    there = checkpoints.own_parameters(step)
    names = {found.key: f"config.terms.{name}" for name, found in settings.terms.items()}
    place = f"{checkpoints.workdir} (config.init_from)"
    held = {key: like for key, like in entry.params.items() if key in there}
    if not held:
        wanted = _list([names[key] for key in entry.params])
        raise UserError(
            f"config.init_terms is 'same', and {place} has no discriminator or other parameters of "
            f"{wanted}{f', only those stored as {_list(there)}' if there else ''}: give weights "
            "with them (python -m data_prep.convert_weights --help), or --config.init_terms=new."
        )
    for key, like in held.items():
        ours, theirs = _shapes(like), _shapes(there[key])
        for leaf in sorted(ours.keys() | theirs.keys()):
            if ours.get(leaf) != theirs.get(leaf):
                raise UserError(
                    f"config.init_terms is 'same', and the parameters of {names[key]} in {place} "
                    f"have other shapes: {leaf} is {theirs.get(leaf, 'missing')} there and "
                    f"{ours.get(leaf, 'missing')} here; give the term the same widths and the run "
                    "the same classes, or --config.init_terms=new."
                )
    taken = _list([names[key] for key in held])
    logger.info("From there, too: what is trained of %s.", taken)
    return dataclasses.replace(entry, params=entry.params | checkpoints.restore_own(step, held))


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names))


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {finite.name_path(path): tuple(leaf.shape) for path, leaf in leaves}
