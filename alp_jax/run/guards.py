"""Detects non-finite losses and norms, and batches without labels, during training.

Synopsis:

  check_finite(window, notes, first_step)     # raises NonFiniteError
  labels = LabelGuard(starts_at_0=True)
  labels.add(notes)
  labels.check(is_last=False)                 # raises UserError
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from alp_jax.data.samples import Notes
from alp_jax.devices import processes
from alp_jax.errors import UserError

MOST_UNLABELLED = 100  # Consecutive batches.
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


class LabelGuard:
    """Counts consecutive batches without any labelled pixel; they teach nothing."""

    def __init__(self, *, starts_at_0: bool) -> None:
        """Creates the guard; `starts_at_0`: whether all batches of the run will be added."""
        self._starts_at_0 = starts_at_0
        self._batches = self._unlabelled = 0

    def add(self, notes: Mapping[str, Notes]) -> None:
        """Counts a batch by the notes on its images."""
        counts = [note.labelled for note in notes.values() if note.labelled is not None]
        self._batches += 1
        is_unlabelled = bool(counts) and not any(np.any(count) for count in counts)
        self._unlabelled = self._unlabelled + 1 if is_unlabelled else 0

    def check(self, *, is_last: bool) -> None:
        """Stops a run whose last batches had no labelled pixel; every process must call it.

        Args:
          is_last: whether the run ends here; then it is enough that no batch of it had one.
        Raises:
          UserError: if the last 100 batches had none in any process.
        """
        ends = is_last and self._starts_at_0
        limit = min(MOST_UNLABELLED, self._batches) if ends else MOST_UNLABELLED
        if processes.any_process(self._unlabelled < max(limit, 1)):
            return
        raise UserError(
            f"None of the last {self._unlabelled} batches has a pixel with a class, so that "
            "nothing can be learned from the source: expected labels with classes of "
            "config.data.label_set; look at them with python -m data_prep.image_folder --check, "
            "and prepare config.data.source with a --label_map that says what its values mean."
        )
