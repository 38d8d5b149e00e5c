"""Finds non-finite numbers while a run trains.

Synopsis:

  check_finite(window, notes, first_step)     # raises NonFiniteError
"""

import math
from collections.abc import Mapping, Sequence

from alp_jax.data.samples import Notes

Scalars = Mapping[str, float]


class NonFiniteError(Exception):
    """A step gave a number that is not finite.

    Attributes:
      step: the update, from 1, that gave it.
      terms: its scalars that are not finite, with their values; losses come first.
      notes: domain -> notes of its batch.
    """

    def __init__(self, step: int, terms: dict[str, float], notes: Mapping[str, Notes]):
        super().__init__(f"{', '.join(terms)} of step {step}")
        self.step, self.terms, self.notes = step, terms, notes


def find_non_finite(scalars: Scalars) -> dict[str, float]:
    """Selects the scalars that are not finite: losses first, as they are the cause of norms."""
    found = {name: float(value) for name, value in scalars.items() if not math.isfinite(value)}
    return dict(sorted(found.items(), key=lambda item: (not item[0].startswith("loss/"), item[0])))


def check_finite(
    window: Sequence[Scalars], notes: Sequence[Mapping[str, Notes]], first_step: int
) -> None:
    """Checks steps in order.

    Args:
      window: the scalars of each step.
      notes: of each step's batch.
      first_step: number of the first of them.
    Raises:
      NonFiniteError: for the first step that has one that is not finite.
    """
    for offset, scalars in enumerate(window):
        terms = find_non_finite(scalars)
        if terms:
            raise NonFiniteError(first_step + offset, terms, notes[offset])
