"""ADR with DeepLabv2: one classifier disputes with itself, by dropout; the backbone makes it agree.

Saito et al., ICLR 2018; code: mil-tokyo/MCD_DA with --uses_one_classifier, whose classifier drops a
tenth of the channels that it reads (DRNSegPixelClassifier_ADR). The phases of a step are those of
`mcd`, and so is what is said there about DeepLabv2 and rates. The two passes of the classifier draw
other channels. No number for GTA5 -> Cityscapes is in the paper's tables.
"""

import ml_collections

from alp_jax.models.settings import head
from alp_jax.objective.settings import term, updates, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds dropout, the second pass of the classifier, the views, the terms and the phases."""
    config.model.heads.main = head("aspp", dropout_rate=0.1)
    config.model.heads.second = head("shared", of="main")
    config.views.source = view("images", domain="source")
    config.views.target = view("images", domain="target")
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.cross_entropy_second = term("cross_entropy", head="second")
    config.terms.discrepancy = term("discrepancy")
    config.updates = updates("maximum_discrepancy")
