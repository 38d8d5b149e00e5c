"""AdaptSegNet's multi-level network: aligns the softmax of two classifiers on whole maps.

Tsai et al., CVPR 2018; code: wasidennis/AdaptSegNet. 42.4 % mean IoU for GTA5 -> Cityscapes and
46.7 % (13 classes) for SYNTHIA -> Cityscapes (Tables 2 and 1 of Cicek et al., ACCV 2020). The
weights are those of the code; its README has 0.0005 and 0.00005 for PyTorch 0.4 and later, and
gives no cause. Deviation: the published decoder returns the sum of two of its four convolutions, by
an error in a loop; ours is the sum of all.
"""

import ml_collections

from alp_jax.objective.settings import placement, term
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the domains, and the terms of two classifiers."""
    adversarial = term("alignment", aligned_map="softmax")
    adversarial.patches = placement("whole")
    default.add_levels(config, adversarial=adversarial)
