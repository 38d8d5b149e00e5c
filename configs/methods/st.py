"""ST: self-training in rounds with one threshold of confidence for all classes.

Zou et al., ECCV 2018; code: yzou2/CBST (`kc_policy` global), here with the optimizer and schedule
of CRST. Rare classes are not mined: that code counts the same number of pixels for each class, so
none is rare.
"""

import ml_collections

from configs import _self_training


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the view, the term and the rounds."""
    _self_training.apply(config, balance="global", mining_probability=0.0)
