"""Detects non-finite losses and norms during training.

Synopsis:

  check_finite(window, notes, first_step)     # raises NonFiniteError
"""

import math
from collections.abc import Mapping, Sequence

from alp_jax.data.samples import Notes

Scalars = Mapping[str, float]


class NonFiniteError(Exception):
    """A step returned a non-finite scalar.

    Attributes:
      step: number of the update, from 1.
      terms: name -> value of its non-finite scalars; losses come first.
      notes: domain -> notes of the step's batch.
    """

    def __init__(self, step: int, terms: dict[str, float], notes: Mapping[str, Notes]):
        super().__init__(f"{', '.join(terms)} of step {step}")
        self.step, self.terms, self.notes = step, terms, notes

    @property
    def is_of_the_start(self) -> bool:
        """Whether the numbers were computed before any update, from the weights of the start."""
        return self.step == 1 and any(
            name.startswith(("loss/", "gradient_norm/")) for name in self.terms
        )


def find_non_finite(scalars: Scalars) -> dict[str, float]:
    """Selects the non-finite scalars, losses first, since they cause non-finite norms."""
    found = {name: float(value) for name, value in scalars.items() if not math.isfinite(value)}
    return dict(sorted(found.items(), key=lambda item: (not item[0].startswith("loss/"), item[0])))


def check_finite(
    window: Sequence[Scalars], notes: Sequence[Mapping[str, Notes]], first_step: int
) -> None:
    """Checks the scalars of consecutive steps.

    Args:
      window: scalars of each step.
      notes: notes of each step's batch.
      first_step: number of the first step.
    Raises:
      NonFiniteError: for the first step with a non-finite scalar.
    """
    for offset, scalars in enumerate(window):
        terms = find_non_finite(scalars)
        if terms:
            raise NonFiniteError(first_step + offset, terms, notes[offset])
