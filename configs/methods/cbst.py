"""CBST: self-training in rounds on pseudo-labels whose thresholds are balanced between classes.

Zou et al., ECCV 2018, by the code of Zou et al., ICCV 2019 (yzou2/CRST), which reports 46.47 % mean
IoU for GTA5 -> Cityscapes, from a source-only 33.35 %, with three scales and mirrored images in
testing.
"""

import ml_collections

from alp_jax.objective.settings import term
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the view, the term and the rounds."""
    default.add_rounds(config)
    config.terms.cross_entropy = term("cross_entropy", view="self_training")
