"""Defines the objective of a method, and the static parts of its train step."""

import dataclasses
import functools

from alp_jax.models.segmenter import Segmenter
from alp_jax.objective.optim import Optimizer
from alp_jax.objective.phases import JOINT, Phase
from alp_jax.objective.teacher import Teacher
from alp_jax.objective.teachers.none import NoTeacher
from alp_jax.objective.types import Term, View


@dataclasses.dataclass(frozen=True)
class Objective:
    """The objective of a method.

    Attributes:
      views: views in the order of their forward passes.
      terms: terms in the order of summation.
      phases: updates of the segmenter in a step, in their order.
    """

    views: tuple[View, ...]
    terms: tuple[Term, ...]
    phases: tuple[Phase, ...] = (JOINT,)

    @property
    def owners(self) -> tuple[Term, ...]:
        """Terms that own parameters."""
        return tuple(term for term in self.terms if term.owns_parameters)

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains that a batch must hold."""
        read = {domain for view in self.views for domain in view.domains}
        return tuple(sorted(read))

    def terms_of(self, view: str, phase: Phase = JOINT) -> tuple[Term, ...]:
        """Returns the terms that read a view in a phase."""
        return tuple(
            term for term in self.terms if view in term.views and phase.factor_of(term.name) != 0
        )

    def views_of(self, phase: Phase) -> tuple[View, ...]:
        """Returns the views of a phase: those of its terms; the first has those of no term, too."""
        return tuple(
            view
            for view in self.views
            if self.terms_of(view.name, phase)
            or (phase is self.phases[0] and not self.terms_of(view.name))
        )

    @functools.cached_property
    def owning_phase(self) -> dict[str, int]:
        """Term that owns parameters -> number of the phase that it takes part in."""
        return {
            term.name: index
            for term in self.owners
            for index, phase in reversed(list(enumerate(self.phases)))
            if phase.factor_of(term.name) != 0
        }


@dataclasses.dataclass(frozen=True)
class Setup:
    """The static parts of a step.

    Attributes:
      segmenter: the network that is adapted.
      objective: views and terms.
      segmenter_optimizer: optimizer of the segmenter's parameters.
      own_optimizer: optimizer of the parameters that terms own.
      teacher: where the weights of a teacher come from.
    """

    segmenter: Segmenter
    objective: Objective
    segmenter_optimizer: Optimizer
    own_optimizer: Optimizer
    teacher: Teacher = dataclasses.field(default_factory=NoTeacher)
