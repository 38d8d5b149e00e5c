"""Defines the base of terms that compare two heads."""

import dataclasses

from alp_jax.models.segmenter import MAIN
from alp_jax.objective.types import TARGET, Surroundings, Term
from alp_jax.settings.schema import refuse, setting


@dataclasses.dataclass(frozen=True)
class HeadPair(Term):
    """A loss of two different heads on one view."""

    view: str = setting(TARGET, "View on which the heads are compared.")
    head: str = setting(MAIN, "The first head.")
    other_head: str = setting("second", "The second head.")

    @property
    def views(self) -> tuple[str, ...]:
        """The view on which the heads are compared."""
        return (self.view,)

    @property
    def heads(self) -> tuple[str, ...]:
        """Both heads."""
        return self.head, self.other_head

    def check_fit(self, name: str, surroundings: Surroundings) -> None:
        """Refuses one head for both."""
        if self.head == self.other_head:
            others = [head for head in surroundings.heads if head != self.head]
            expected = f"another head than {name}.head: {', '.join(others) or 'none'}"
            refuse(f"{name}.other_head", self.other_head, expected)
