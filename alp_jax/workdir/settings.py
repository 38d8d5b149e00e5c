"""Declares the settings of a run, with a block from each package.

Synopsis:

  settings = build_settings(run_config)     # checked, typed and frozen
"""

import dataclasses
from typing import Any, Literal

import ml_collections

from alp_jax.data.settings import DataSettings
from alp_jax.devices.mesh import MeshSettings
from alp_jax.errors import UserError
from alp_jax.models.settings import ModelSettings
from alp_jax.objective.optimizer_settings import OptimizerSettings
from alp_jax.objective.phases import Updates, check_phases
from alp_jax.objective.settings import (
    check_objective,
    declare_teacher,
    declare_terms,
    declare_updates,
    declare_views,
)
from alp_jax.objective.teacher import Teacher
from alp_jax.self_training.settings import SELF_TRAINING, RoundsSettings
from alp_jax.settings.schema import build, refuse, setting
from alp_jax.workdir.checkpoint import CheckpointSettings
from alp_jax.workdir.scores import EvaluationSettings


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """All settings of a run."""

    seed: int = setting(0, "Seed of data order, flips, patches and initialisation.", at_least=0)
    num_steps: int = setting(
        150_000, "Train steps; each updates all players once.", at_least=1, operational=True
    )
    init_from: str = setting(
        "",
        "Workdir of a run, or of converted weights, that initialises the segmenter; empty: random "
        "values.",
    )
    init_heads: Literal["same", "new"] = setting(
        "same",
        "Heads of a run with init_from: those of the weights, which must be for the same classes "
        "(same); or random values, and the weights give the backbone alone (new).",
    )
    init_terms: Literal["new", "same"] = setting(
        "new",
        "What terms own, such as discriminators, in a run with init_from: random values (new); or "
        "that of the weights for every term that they hold, of the same name and shape (same).",
    )
    start_variant: str = setting(
        "", "Variant of the run in init_from; a study trains that run first."
    )
    log_every_steps: int = setting(
        100, "Steps averaged in one line of metrics.jsonl.", at_least=1, operational=True
    )
    tensorboard: bool = setting(
        True,
        "Whether scalars and pictures are also written for TensorBoard; importing TensorFlow takes "
        "seconds.",
        operational=True,
    )
    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    views: dict[str, Any] = declare_views()
    terms: dict[str, Any] = declare_terms()
    updates: Updates = declare_updates()
    teacher: Teacher = declare_teacher()
    rounds: RoundsSettings = dataclasses.field(default_factory=RoundsSettings)
    optimizer: OptimizerSettings = dataclasses.field(default_factory=OptimizerSettings)
    evaluation: EvaluationSettings = dataclasses.field(default_factory=EvaluationSettings)
    checkpoint: CheckpointSettings = dataclasses.field(default_factory=CheckpointSettings)
    mesh: MeshSettings = dataclasses.field(default_factory=MeshSettings)

    def check(self, name: str) -> None:
        """Refuses settings of different blocks that do not agree."""
        if self.num_steps > self.optimizer.horizon_steps:
            refuse(
                f"{name}.optimizer.horizon_steps",
                self.optimizer.horizon_steps,
                f"at least num_steps ({self.num_steps}), or the learning rate is 0 before the end",
            )
        sizes = {"source": self.data.source_size, "target": self.data.target_size}
        self._check_teacher(name)
        if self.rounds.num_rounds:
            sizes[SELF_TRAINING] = self.rounds.crop_size
            self._check_rounds(name)
        check_objective(
            self.views,
            self.terms,
            name,
            sizes=sizes,
            heads=self.model.head_names,
            has_statistics=self.model.moves_statistics,
        )
        self.updates.check_fit(f"{name}.updates", self.terms)
        check_phases(self.updates.list_phases(self.terms), f"{name}.updates", self.terms)

    def _check_teacher(self, name: str) -> None:
        """Refuses a view without the teacher that it needs, and a teacher that learns nothing."""
        if self.teacher.needs_rounds and not self.rounds.num_rounds:
            expected = "above 0 with that teacher, which learns at the beginning of rounds"
            refuse(f"{name}.rounds.num_rounds", self.rounds.num_rounds, expected)
        for view_name, view in self.views.items():
            if view.uses_teacher and not self.teacher.is_present:
                raise UserError(
                    f"{name}.views.{view_name} needs a teacher, and {name}.teacher is none: "
                    "expected a teacher such as round_start."
                )

    def _check_rounds(self, name: str) -> None:
        """Refuses rounds that end before the run does, or that nothing is trained on."""
        if self.num_steps > self.rounds.num_steps:
            refuse(
                f"{name}.num_steps",
                self.num_steps,
                f"at most num_rounds * steps_per_round of {name}.rounds ({self.rounds.num_steps})",
            )
        if not any(SELF_TRAINING in view.domains for view in self.views.values()):
            refuse(
                f"{name}.rounds.num_rounds",
                self.rounds.num_rounds,
                f"0, as no view of {name}.views reads the domain {SELF_TRAINING}",
            )


def build_settings(run_config: ml_collections.ConfigDict) -> RunSettings:
    """Checks a configuration and builds the settings of a run.

    Raises:
      UserError: naming the field, its value and what is accepted.
    """
    return build(RunSettings, run_config)
