"""Loads a trained network, or an ensemble of several, from workdirs.

Synopsis:

  ensemble = load_ensemble("runs/advent", "latest", others=["runs/minent_er"], weights=(0.5, 0.5))
  logits = ensemble.predictor.predict(ensemble.variables, images, size)
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from alp_jax import models
from alp_jax.data.labels import LabelSet
from alp_jax.errors import UserError
from alp_jax.evaluation.predictor import Predictor, Recipe, Variables
from alp_jax.models import Segmenter
from alp_jax.workdir import classes, config
from alp_jax.workdir.checkpoint import Checkpoints
from alp_jax.workdir.settings import RunSettings

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Member:
    """A network with the weights of a checkpoint.

    Attributes:
      workdir: folder of the run.
      step: step of the checkpoint.
      settings: settings of the run.
      label_set: classes of the run.
      segmenter: the network.
      params, model_state: variables of the network.
    """

    workdir: pathlib.Path
    step: int
    settings: RunSettings
    label_set: LabelSet
    segmenter: Segmenter
    params: PyTree
    model_state: PyTree


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Networks whose probabilities are averaged; usually one.

    Attributes:
      members: networks in the order of their weights.
      predictor: predictor over all members.
    """

    members: tuple[Member, ...]
    predictor: Predictor

    @property
    def settings(self) -> RunSettings:
        """Settings of the first member."""
        return self.members[0].settings

    @property
    def label_set(self) -> LabelSet:
        """Classes of all members."""
        return self.members[0].label_set

    @property
    def variables(self) -> Variables:
        """(params, model_state) of each member."""
        return tuple((member.params, member.model_state) for member in self.members)

    def describe(self) -> dict[str, Any]:
        """Returns members and passes for result files; empty for a plain prediction."""
        if self.predictor.is_plain:
            return {}
        described = self.predictor.recipe.describe()
        if len(self.members) > 1:
            weights = self.predictor.weights or (1.0,) * len(self.members)
            described["ensemble"] = [
                {
                    "workdir": str(member.workdir),
                    "step": member.step,
                    "weight": weight / sum(weights),
                }
                for member, weight in zip(self.members, weights, strict=True)
            ]
        return {"inference": described}

    def suffix(self) -> str:
        """Returns the file-name suffix for this prediction; empty for a plain one."""
        others = "".join(f"_with_{m.workdir.name}_{m.step}" for m in self.members[1:])
        weights = "-".join(f"{weight:g}" for weight in self.predictor.weights)
        weighted = f"_weights{weights}" if weights else ""
        return f"{others}{weighted}{self.predictor.recipe.suffix()}"


def load_ensemble(
    workdir: str | os.PathLike[str],
    checkpoint: str,
    *,
    recipe: Recipe,
    others: Sequence[str] = (),
    weights: Sequence[float] = (),
    settings: RunSettings | None = None,
) -> Ensemble:
    """Loads the networks of one or more runs.

    Args:
      workdir: folder of the first member's run.
      checkpoint: checkpoint of every member: "latest", "best" or the number of a step.
      recipe: passes that are averaged.
      others: workdirs of further members, or WORKDIR:CHECKPOINT.
      weights: weights of all members, the first member first; empty: equal weights.
      settings: settings of the first member; None reads them from its workdir.
    Raises:
      UserError: if there is no such run or checkpoint, the members' classes or sizes differ, or the
        weights do not fit.
    """
    first = _load_member(pathlib.Path(workdir).expanduser(), checkpoint, settings)
    members = [first]
    for other in others:
        folder, _, step = other.partition(":")
        member = _load_member(pathlib.Path(folder).expanduser(), step or checkpoint, None)
        _check_agrees(member, first)
        members.append(member)
    if weights and not others:
        raise UserError(
            "Weights of an ensemble are given, and no other run: give both, or neither."
        )
    if weights and (len(weights) != len(members) or min(weights) < 0 or not sum(weights) > 0):
        raise UserError(
            f"The weights of the ensemble are {', '.join(map(str, weights))}: expected "
            f"{len(members)} numbers, one for each member, none below 0 and not all 0."
        )
    segmenters = tuple(member.segmenter for member in members)
    size = first.settings.data.target_size
    return Ensemble(tuple(members), Predictor(segmenters, size, recipe, tuple(weights)))


def _load_member(workdir: pathlib.Path, checkpoint: str, settings: RunSettings | None) -> Member:
    settings = settings or config.load(workdir)
    label_set = classes.load(workdir, settings.data.label_set)
    segmenter = models.create_segmenter(settings.model, label_set.num_classes)
    params, model_state, step = restore_segmenter(workdir, segmenter, checkpoint)
    return Member(workdir, step, settings, label_set, segmenter, params, model_state)


def _check_agrees(member: Member, first: Member) -> None:
    ours, theirs = (found.settings.data.target_size for found in (member, first))
    if ours != theirs:
        raise UserError(
            f"{member.workdir} has config.data.target_size {ours!r} and {first.workdir} "
            f"{theirs!r}: expected the same in all members of an ensemble."
        )
    if member.label_set.names != first.label_set.names:
        raise UserError(
            f"{member.workdir} has the classes {', '.join(member.label_set.names)}, and "
            f"{first.workdir} {', '.join(first.label_set.names)}: expected the same, in the same "
            "order, in all members of an ensemble."
        )


def restore_segmenter(
    workdir: pathlib.Path, segmenter: Segmenter, checkpoint_name: str
) -> tuple[PyTree, PyTree, int]:
    """Restores (params, model_state, step) of the checkpoint "latest", "best" or a step's number.

    Raises:
      UserError: if there is no such checkpoint, or it belongs to another network.
    """
    params, model_state = jax.eval_shape(segmenter.init, jax.random.key(0))
    with Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.resolve(checkpoint_name)
        params, model_state = checkpoints.restore_segmenter(step, params, model_state)
    return params, model_state, step
