"""MinEnt: minimises the entropy of the target's predictions, in two classifiers.

Vu et al., CVPR 2019; code: valeoai/ADVENT. 42.3 % mean IoU for GTA5 -> Cityscapes, 38.1 % (16
classes) and 44.2 % (13) for SYNTHIA -> Cityscapes (Tables 2 and 1 of Cicek et al., ACCV 2020), the
best of about 60 checkpoints by validation labels. No deviation: weights, the auxiliary classifier
and batch statistics as in `advent`, without discriminators.
"""

import ml_collections

from alp_jax.objective.settings import term
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the domains, and the terms of two classifiers."""
    default.add_levels(config, entropy=term("entropy"))
    config.num_steps = 120_000  # Of a schedule of 250,000.
