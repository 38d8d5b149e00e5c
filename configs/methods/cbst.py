"""CBST: self-training in rounds on pseudo-labels whose thresholds are balanced between classes.

Zou et al., ECCV 2018, by the code of Zou et al., ICCV 2019 (yzou2/CRST), which reports 46.47 % mean
IoU for GTA5 -> Cityscapes, from a source-only 33.35 %, with three scales and mirrored images in
testing.
"""

import ml_collections

from configs import _self_training


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the view, the term and the rounds."""
    _self_training.apply(config)
