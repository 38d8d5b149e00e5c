"""Global alignment as a term of its own: aligns whole maps of the prediction.

The control of `alp`: the same term on whole maps in place of patches, as in `agp_gi`.
"""

import ml_collections

from alp_jax.objective.settings import placement, term
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the term, and the views of both domains where a method lacks them."""
    default.add_domains(config)
    head = "+".join(config.model.prediction)
    config.terms.adversarial_agp = term("alignment", head=head)
    config.terms.adversarial_agp.patches = placement("whole")
