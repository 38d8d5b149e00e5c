"""Plays the game of maximum classifier discrepancy in three phases: MCD.

Saito et al., CVPR 2018; code: mil-tokyo/MCD_DA, segmentation/adapt_trainer.py.
"""

import dataclasses
from collections.abc import Mapping

from alp_jax.objective.phases import JOINT, Phase, Updates
from alp_jax.objective.types import Term
from alp_jax.settings.schema import refuse, setting


@dataclasses.dataclass(frozen=True)
class MaximumDiscrepancy(Updates):
    """Updates the classifiers to disagree on the target, and the backbone to make them agree.

    1. All parameters minimise the sum of all terms but the discrepancy.
    2. The classifiers minimise that sum minus the discrepancy. Terms that own parameters, such as
       an alignment, take no part, as they are for the backbone.
    3. The backbone minimises the discrepancy, `backbone_updates` times.
    """

    discrepancy: str = setting("discrepancy", "Term that the two players of the game dispute.")
    backbone_updates: int = setting(
        4, "Updates of the backbone by the discrepancy in a step (MCD: 4).", at_least=1
    )

    def check_fit(self, name: str, terms: Mapping[str, Term]) -> None:
        """Refuses a discrepancy that is no term, or no other term beside it."""
        if self.discrepancy not in terms or len(terms) == 1:
            known = ", ".join(terms) or "none"
            refuse(
                f"{name}.discrepancy",
                self.discrepancy,
                f"the name of one of at least two terms: {known}",
            )

    def list_phases(self, terms: Mapping[str, Term]) -> tuple[Phase, ...]:
        """Lists the three phases."""
        others = {name: 1.0 for name in terms if name != self.discrepancy}
        supervised = {name: 1.0 for name in others if not terms[name].owns_parameters}
        return (
            dataclasses.replace(JOINT, factors=others),
            Phase(
                {**supervised, self.discrepancy: -1.0}, frozenset({"decoder"}), name="_classifiers"
            ),
            Phase(
                {self.discrepancy: 1.0},
                frozenset({"backbone"}),
                repeats=self.backbone_updates,
                name="_backbone",
            ),
        )


UPDATES = MaximumDiscrepancy
