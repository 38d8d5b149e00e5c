"""Updates the whole segmenter once, by the sum of all terms."""

import dataclasses
from collections.abc import Mapping

from alp_jax.objective.phases import JOINT, Phase, Updates
from alp_jax.objective.types import Term


@dataclasses.dataclass(frozen=True)
class Joint(Updates):
    """Makes one update of all parameters."""

    def list_phases(self, terms: Mapping[str, Term]) -> tuple[Phase, ...]:
        """Returns the only phase, in which all terms take part."""
        del terms
        return (JOINT,)


UPDATES = Joint
