"""MinEnt + ER: minimises the entropy of the 30 % most uncertain pixels of each target image.

Vu et al., CVPR 2019: 43.1 % mean IoU for GTA5 -> Cityscapes (Table 2 of Cicek et al., ACCV 2020).
AdvEnt's authors did not publish code for ER; the share is that of their paper, and how pixels are
chosen (`alp_jax/objective/terms/entropy.py`) is ours. Otherwise as `minent`.
"""

import ml_collections

from alp_jax.models.settings import head
from alp_jax.objective.settings import term, view

_SHARE = 0.3


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the views and terms, and the auxiliary classifier."""
    config.views.source = view("images", domain="source")
    config.views.target = view("images", domain="target")
    config.model.heads.aux = head("aspp", stage=-2)
    config.model.backbone.batch_norm_mode = "batch"
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.cross_entropy_aux = term("cross_entropy", head="aux", weight=0.1)
    config.terms.entropy = term("entropy", top_share=_SHARE)
    config.terms.entropy_aux = term("entropy", top_share=_SHARE, head="aux", weight=0.0002)
    config.num_steps = 120_000  # Of a schedule of 250,000.
