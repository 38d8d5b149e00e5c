"""MinEnt + ER: minimises the entropy of the 30 % most uncertain pixels of each target image.

Vu et al., CVPR 2019: 43.1 % mean IoU for GTA5 -> Cityscapes (Table 2 of Cicek et al., ACCV 2020).
AdvEnt's authors did not publish code for ER; the share is that of their paper, and how pixels are
chosen (`alp_jax/objective/terms/entropy.py`) is ours. Otherwise as `minent`.
"""

import ml_collections

from alp_jax.objective.settings import term
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the domains, and the terms of two classifiers."""
    default.add_levels(config, entropy=term("entropy", top_share=0.3))
    config.num_steps = 120_000  # Of a schedule of 250,000.
