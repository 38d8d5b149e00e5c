"""Defines the phases of a step: the updates that it makes of the segmenter."""

import abc
import dataclasses
from collections.abc import Mapping

from alp_jax.models.parts import Part
from alp_jax.objective.types import Term


@dataclasses.dataclass(frozen=True)
class Phase:
    """One of the updates of the segmenter in a step.

    Attributes:
      factors: factor of the loss of each term that takes part, besides its weight; None: all terms
        take part, with a factor of 1.
      moves: parts of the network that learn.
      repeats: how often the update is made.
      name: ending of the names of the optimizer's scalars.
    """

    factors: Mapping[str, float] | None = None
    moves: frozenset[Part] = frozenset({"backbone", "decoder"})
    repeats: int = 1
    name: str = ""

    def factor_of(self, term: str) -> float:
        """Returns the factor of a term; 0 if it takes no part."""
        return 1.0 if self.factors is None else self.factors.get(term, 0.0)


JOINT = Phase()


@dataclasses.dataclass(frozen=True)
class Updates(abc.ABC):
    """The updates of the segmenter in a step: its phases, one after the other.

    Each phase has its own forward passes, at the parameters that the phase before left. The
    parameters that terms own are updated once, at the end, from the maps of the first phase that
    the term takes part in.
    """

    @abc.abstractmethod
    def list_phases(self, terms: Mapping[str, Term]) -> tuple[Phase, ...]:
        """Lists the phases of a step.

        Args:
          terms: terms of the objective by name.
        """

    def check_fit(self, name: str, terms: Mapping[str, Term]) -> None:
        """Refuses settings that do not fit the terms.

        Args:
          name: name of the block in the configuration.
          terms: terms of the objective by name.
        Raises:
          UserError: naming the field.
        """
        del name, terms
