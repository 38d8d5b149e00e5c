"""AdaptSegNet's least-squares form: squared errors of the discriminator's scores, single level.

Tsai et al., CVPR 2018; code: wasidennis/AdaptSegNet with --gan LS, a single level and the weight
0.01, for which its issues name 44.1 % mean IoU for GTA5 -> Cityscapes; ProDA's warm-up is this,
43.3 % in its released checkpoint. The network, map and rates are those of `adaptsegnet`, without an
auxiliary classifier.
"""

import ml_collections

from alp_jax.objective.settings import placement, term, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the views and terms."""
    config.views.source = view("images", domain="source")
    config.views.target = view("images", domain="target")
    config.model.backbone.batch_norm_mode = "batch"
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.adversarial = term(
        "alignment", weight=0.01, aligned_map="softmax", game="least_squares"
    )
    config.terms.adversarial.patches = placement("whole")
