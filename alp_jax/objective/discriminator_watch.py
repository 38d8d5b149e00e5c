"""Watches the accuracy of a term's discriminator during a run."""

from collections.abc import Mapping
from typing import Protocol

from alp_jax.objective.types import Watch


class Watched(Protocol):
    """A term with a discriminator."""

    @property
    def name(self) -> str:
        """Name of the term."""

    @property
    def watch_patience(self) -> int:
        """Consecutive reports before a warning; 0 never warns."""

    @property
    def watch_tolerance(self) -> float:
        """Distance from 1 or 1/2 within which the accuracy counts as being there."""

    @property
    def accuracies(self) -> tuple[str, ...]:
        """Names of the discriminator's accuracies."""


class DiscriminatorWatch(Watch):
    """Warns when the discriminator has won, or collapsed, in several consecutive reports.

    The accuracy is the mean over both domains. At 1 the discriminator separates them without
    effort, and the segmenter hardly gets a gradient. At 1/2 it cannot tell them apart, and the
    segmenter has nothing to learn from.
    """

    def __init__(self, term: "Watched"):
        """Creates the watch of a term, with all counts at 0."""
        self._term = term
        self._count = dict.fromkeys(_WARNINGS, 0)

    def update(self, step: int, averages: Mapping[str, float]) -> str | None:
        """Returns a warning once for each series of reports with the accuracy at 1 or 1/2."""
        names = self._term.accuracies
        if self._term.watch_patience == 0 or not all(name in averages for name in names):
            return None
        accuracy = sum(averages[name] for name in names) / len(names)
        warning = None
        for pinned in self._count:
            is_there = abs(accuracy - pinned) <= self._term.watch_tolerance
            self._count[pinned] = self._count[pinned] + 1 if is_there else 0
            if self._count[pinned] == self._term.watch_patience:
                block_name = f"config.terms.{self._term.name}"
                reports = f"the last {self._term.watch_patience} reports to step {step}"
                warning = _WARNINGS[pinned].format(term=block_name, reports=reports)
        return warning


# Accuracy -> warning for a series of reports with that accuracy.
_WARNINGS = {
    1.0: (
        "The discriminator has won: its accuracy was 1.0 in {reports}, so that the segmenter "
        "learns little from it; try smaller patches ({term}.patches), fewer {term}.widths, a lower "
        "config.optimizer.discriminator_learning_rate, or an earlier checkpoint."
    ),
    0.5: (
        "The discriminator has collapsed: its accuracy was 0.5 in {reports}, so that there is "
        "nothing to align by; try a higher config.optimizer.discriminator_learning_rate, larger "
        "patches ({term}.patches), or a lower {term}.weight."
    ),
}
