"""AdvEnt's multi-level network: aligns the self-information of two classifiers on whole maps.

Vu et al., CVPR 2019; code: valeoai/ADVENT, which reports 43.8 % mean IoU for GTA5 -> Cityscapes,
the best of about 60 checkpoints by validation labels. Differences from AGP-GI, the paper's run of
AdvEnt: the map is divided by log K, batch norm uses batch statistics, and an auxiliary classifier
on the last stage but one has losses of its own, with weights 0.1 and 0.0002.
"""

import ml_collections

from alp_jax.models.settings import head
from alp_jax.objective.settings import placement, term, view

_MAP = "normalized_self_information"


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the views and terms, and the auxiliary classifier."""
    config.views.source = view("images", domain="source")
    config.views.target = view("images", domain="target")
    config.model.heads.aux = head("aspp", stage=-2)
    config.model.backbone.batch_norm_mode = "batch"
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.cross_entropy_aux = term("cross_entropy", head="aux", weight=0.1)
    config.terms.adversarial = term("alignment", aligned_map=_MAP)
    config.terms.adversarial_aux = term("alignment", aligned_map=_MAP, head="aux", weight=0.0002)
    for name in ("adversarial", "adversarial_aux"):
        config.terms[name].patches = placement("whole")
    config.num_steps = 120_000  # Of a schedule of 250,000.
