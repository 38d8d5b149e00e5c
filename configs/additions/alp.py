"""Local alignment as a term of its own: aligns randomly placed patches of the prediction.

The term is that of `alp_gi` (Cicek et al., ACCV 2020, Eqs. (2) to (4)). The paper calls its idea
"orthogonal to most of the methods" that it compares itself with.
"""

import ml_collections

from alp_jax.objective.settings import term
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the term, and the views of both domains where a method lacks them."""
    default.add_domains(config)
    head = "+".join(config.model.prediction)
    config.terms.adversarial_alp = term("alignment", head=head)
