"""AdaptSegNet's multi-level network: aligns the softmax of two classifiers on whole maps.

Tsai et al., CVPR 2018; code: wasidennis/AdaptSegNet. 42.4 % mean IoU for GTA5 -> Cityscapes and
46.7 % (13 classes) for SYNTHIA -> Cityscapes (Tables 2 and 1 of Cicek et al., ACCV 2020). The
weights are those of the code; its README has 0.0005 and 0.00005 for PyTorch 0.4 and later, and
gives no cause. Deviation: the published decoder returns the sum of two of its four convolutions, by
an error in a loop; ours is the sum of all.
"""

import ml_collections

from alp_jax.models.settings import head
from alp_jax.objective.settings import placement, term, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the views and terms, and the auxiliary classifier."""
    config.views.source = view("images", domain="source")
    config.views.target = view("images", domain="target")
    config.model.heads.aux = head("aspp", stage=-2)
    config.model.backbone.batch_norm_mode = "batch"
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.cross_entropy_aux = term("cross_entropy", head="aux", weight=0.1)
    config.terms.adversarial = term("alignment", aligned_map="softmax")
    config.terms.adversarial_aux = term(
        "alignment", aligned_map="softmax", head="aux", weight=0.0002
    )
    for name in ("adversarial", "adversarial_aux"):
        config.terms[name].patches = placement("whole")
