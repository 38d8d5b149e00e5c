"""AGP-GI: aligns the predictions of whole images, on whole maps (AdvEnt's alignment).

Cicek et al., ACCV 2020, Table 4, the authors' run of AdvEnt: 40.56 % mean IoU for GTA5 ->
Cityscapes. Code: valeoai/ADVENT.
"""

import ml_collections

from alp_jax.objective.settings import placement, term, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the views and terms."""
    config.views.source = view("images", domain="source")
    config.views.target = view("images", domain="target")
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.adversarial = term("alignment")
    config.terms.adversarial.patches = placement("whole")
