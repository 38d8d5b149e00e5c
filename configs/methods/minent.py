"""MinEnt: minimises the entropy of the target's predictions, in two classifiers.

Vu et al., CVPR 2019; code: valeoai/ADVENT. 42.3 % mean IoU for GTA5 -> Cityscapes, 38.1 % (16
classes) and 44.2 % (13) for SYNTHIA -> Cityscapes (Tables 2 and 1 of Cicek et al., ACCV 2020), the
best of about 60 checkpoints by validation labels. No deviation: weights, the auxiliary classifier
and batch statistics as in `advent`, without discriminators.
"""

import ml_collections

from alp_jax.models.settings import head
from alp_jax.objective.settings import term, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the views and terms, and the auxiliary classifier."""
    config.views.source = view("images", domain="source")
    config.views.target = view("images", domain="target")
    config.model.heads.aux = head("aspp", stage=-2)
    config.model.backbone.batch_norm_mode = "batch"
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.cross_entropy_aux = term("cross_entropy", head="aux", weight=0.1)
    config.terms.entropy = term("entropy")
    config.terms.entropy_aux = term("entropy", head="aux", weight=0.0002)
    config.num_steps = 120_000  # Of a schedule of 250,000.
