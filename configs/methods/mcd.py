"""MCD with DeepLabv2: two classifiers dispute the target, the backbone makes them agree.

Saito et al., CVPR 2018; code: mil-tokyo/MCD_DA, segmentation/adapt_trainer.py, which reports 39.7 %
mean IoU for GTA5 -> Cityscapes with DRN-D-105. There the network is a DRN up to its class scores,
and a classifier is a transposed convolution. With DeepLabv2, as the later literature ran it, the
backbone is one player and two pyramids of dilated convolutions on its last stage are the other; so
this is no reproduction of that number. Published rates, which belong to DRN, are SGD 1e-3 without a
larger one for classifiers, weight decay 2e-5, and a constant schedule; they are not set here.
"""

import ml_collections

from alp_jax.models.settings import head
from alp_jax.objective.settings import term, updates, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the second classifier, the views, the terms, and the three phases of a step."""
    config.model.heads.second = head("aspp")
    config.model.prediction = ("main", "second")
    config.views.source = view("images", domain="source")
    config.views.target = view("images", domain="target")
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.cross_entropy_second = term("cross_entropy", head="second")
    config.terms.discrepancy = term("discrepancy")
    config.updates = updates("maximum_discrepancy")
