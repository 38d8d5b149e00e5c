"""MinEnt + CP: MinEnt that keeps each class at half of its share in the source, or above.

Vu et al., CVPR 2019, who use the class ratio prior for SYNTHIA -> Cityscapes; no table of Cicek et
al., ACCV 2020, has a number for it. AdvEnt's authors did not publish code for CP: mu = 0.5 is from
their paper, and the weights, which are those of the entropy, are ours. Otherwise as `minent`.

The shares of classes in the source are counted when training starts, from the frequencies that the
preparation of the dataset has stored.
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
    config.terms.class_ratio = term("class_ratio_prior")
    config.terms.class_ratio_aux = term("class_ratio_prior", head="aux", weight=0.0002)
    config.num_steps = 120_000  # Of a schedule of 250,000.
