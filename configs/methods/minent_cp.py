"""MinEnt + CP: MinEnt that keeps each class at half of its share in the source, or above.

Vu et al., CVPR 2019, who use the class ratio prior for SYNTHIA -> Cityscapes; no table of Cicek et
al., ACCV 2020, has a number for it. AdvEnt's authors did not publish code for CP: mu = 0.5 is from
their paper, and the weights, which are those of the entropy, are ours. Otherwise as `minent`.

The shares of classes in the source are counted when training starts, from the frequencies that the
preparation of the dataset has stored.
"""

import ml_collections

from alp_jax.objective.settings import term
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the domains, and the terms of two classifiers."""
    default.add_levels(config, entropy=term("entropy"), class_ratio=term("class_ratio_prior"))
    config.num_steps = 120_000  # Of a schedule of 250,000.
