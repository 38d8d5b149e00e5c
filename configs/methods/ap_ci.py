"""AP-CI: aligns the predictions of cropped input images.

Cicek et al., ACCV 2020, section 4.3 and Table 4: 20.62 % mean IoU for GTA5 -> Cityscapes.
"""

import ml_collections

from alp_jax.objective.settings import placement, term, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the views and terms."""
    config.views.source = view("crops", domain="source")
    config.views.target = view("crops", domain="target")
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.adversarial = term("alignment")
    config.terms.adversarial.patches = placement("whole")
