"""Source-only: minimises the cross-entropy on source images; the network sees no target image.

Cicek et al., ACCV 2020, Table 4: 37.76 % mean IoU for GTA5 -> Cityscapes (DeepLabv2-ResNet101).
"""

import ml_collections

from alp_jax.objective.settings import term, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the views and terms."""
    config.views.source = view("images", domain="source")
    config.terms.cross_entropy = term("cross_entropy")
