"""What a run watches for while it trains: numbers that are not finite, a game that is over.

Synopsis:

  check_finite(window, first_step)                         # raises NonFiniteError
  watch = DiscriminatorWatch(patience=20, tolerance=0.005)
  watch.update(averages)                                   # warns
"""

import logging
import math
from collections.abc import Mapping, Sequence

from alp_jax.data.samples import Notes

logger = logging.getLogger(__name__)

Scalars = Mapping[str, float]

_ACCURACIES = ("discriminator_accuracy/source", "discriminator_accuracy/target")
_HIGHEST, _CHANCE = 1.0, 0.5


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


class DiscriminatorWatch:
    """Warns when the discriminator has won, or collapsed, for a number of reports on end.

    Its accuracy is the mean over both domains. Pinned at 1 it tells them apart without effort, and
    the segmenter gets hardly a gradient; pinned at 1/2 it tells nothing, and there is nothing to
    learn from it either.
    """

    def __init__(self, *, patience: int, tolerance: float):
        """Starts counting.

        Args:
          patience: reports on end before the warning; 0 never warns.
          tolerance: how far from 1, or from 1/2, counts as there.
        """
        self._patience, self._tolerance = patience, tolerance
        self._count = dict.fromkeys((_HIGHEST, _CHANCE), 0)

    def update(self, step: int, averages: Scalars) -> None:
        """Takes the averages of a report; warns once for each time that it stays."""
        if self._patience == 0 or not all(name in averages for name in _ACCURACIES):
            return
        accuracy = sum(averages[name] for name in _ACCURACIES) / len(_ACCURACIES)
        for pinned in self._count:
            is_there = abs(accuracy - pinned) <= self._tolerance
            self._count[pinned] = self._count[pinned] + 1 if is_there else 0
            if self._count[pinned] == self._patience:
                logger.warning(_WARNINGS[pinned], self._patience, step)


_WARNINGS = {
    _HIGHEST: (
        "The discriminator has won: its accuracy was 1.0 in the last %d reports to step %d, so "
        "that the segmenter learns little from it; try smaller patches "
        "(config.objective.patch_size), fewer config.discriminator.widths, a lower "
        "config.optimizer.discriminator_learning_rate, or an earlier checkpoint."
    ),
    _CHANCE: (
        "The discriminator has collapsed: its accuracy was 0.5 in the last %d reports to step %d, "
        "so that there is nothing to align by; try a higher "
        "config.optimizer.discriminator_learning_rate, larger patches "
        "(config.objective.patch_size), or a lower config.objective.adversarial_weight."
    ),
}
