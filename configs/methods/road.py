"""ROAD's spatial alignment: aligns the predictions in each cell of a grid of 3x3.

Chen et al., CVPR 2018, whose abstract has 39.4 % mean IoU for GTA5 -> Cityscapes. No code was
published, so this is the form alone: the map, weight and networks are those of `agp_gi`, each cell
has a discriminator of its own, and ROAD's other part, which keeps features near those of a network
trained on ImageNet, is not here.
"""

import ml_collections

from alp_jax.objective.settings import placement, term, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the views and terms."""
    config.views.source = view("images", domain="source")
    config.views.target = view("images", domain="target")
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.adversarial = term("alignment", discriminators="per_patch")
    config.terms.adversarial.patches = placement("grid")
