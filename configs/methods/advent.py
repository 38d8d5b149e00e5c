"""AdvEnt's multi-level network: aligns the self-information of two classifiers on whole maps.

Vu et al., CVPR 2019; code: valeoai/ADVENT, which reports 43.8 % mean IoU for GTA5 -> Cityscapes,
the best of about 60 checkpoints by validation labels. Differences from AGP-GI, the paper's run of
AdvEnt: the map is divided by log K, batch norm uses batch statistics, and an auxiliary classifier
on the last stage but one has losses of its own, with weights 0.1 and 0.0002.
"""

import ml_collections

from alp_jax.objective.settings import placement, term
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the domains, and the terms of two classifiers."""
    adversarial = term("alignment", aligned_map="normalized_self_information")
    adversarial.patches = placement("whole")
    default.add_levels(config, adversarial=adversarial)
    config.num_steps = 120_000  # Of a schedule of 250,000.
