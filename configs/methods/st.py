"""ST: self-training in rounds with one threshold of confidence for all classes.

Zou et al., ECCV 2018; code: yzou2/CBST (`kc_policy` global), here with the optimizer and schedule
of CRST. Rare classes are not mined: that code counts the same number of pixels for each class, so
none is rare.
"""

import ml_collections

from alp_jax.objective.settings import term
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the view, the term and the rounds."""
    default.add_rounds(config, balance="global", mining_probability=0.0)
    config.terms.cross_entropy = term("cross_entropy", view="self_training")
