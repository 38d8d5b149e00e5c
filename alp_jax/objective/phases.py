"""Defines the phases of a step: the updates that it makes of the segmenter."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

from alp_jax.errors import UserError
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


def check_phases(value: Any, name: str, terms: Mapping[str, Term]) -> None:
    """Refuses phases that a step cannot have.

    Args:
      value: what `list_phases` returns.
      name: name of the block of the updates in the configuration, "config.updates".
      terms: terms of the objective by name.
    Raises:
      UserError: if they are no phases, a term takes part in none, or a term that owns parameters
        takes part in a repeated one first.
    """
    if not (isinstance(value, tuple) and value and all(isinstance(p, Phase) for p in value)):
        raise UserError(
            f"The list_phases of {name} returns {value!r}: expected a tuple of at least one Phase "
            f"of {Phase.__module__}."
        )
    place = name.rpartition(".")[0]
    for term_name, term in terms.items():
        own = [phase for phase in value if phase.factor_of(term_name) != 0]
        if not own:
            raise UserError(
                f"{place}.terms.{term_name} takes part in no phase of {name}: expected a factor of "
                "it in one, or a configuration without it."
            )
        if term.owns_parameters and own[0].repeats > 1:
            raise UserError(
                f"{place}.terms.{term_name} owns parameters, and the first phase of {name} that it "
                f"takes part in is made {own[0].repeats} times: expected an earlier phase with it "
                "that is made once, as its parameters are updated once, from the maps of that one."
            )
