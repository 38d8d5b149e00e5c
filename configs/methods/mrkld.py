"""MRKLD: CBST whose predictions on pseudo-labels are kept from being too sure, by a divergence.

Zou et al., ICCV 2019; code: yzou2/CRST, which reports 47.39 % mean IoU for GTA5 -> Cityscapes, from
a source-only 33.35 %, with three scales and mirrored images in testing. The weight is 0.01: the
published option 0.1 multiplies the penalty twice, as weight of each target image and of the sum.
"""

import ml_collections

from alp_jax.objective.settings import term
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the view, the terms and the rounds."""
    default.add_rounds(config)
    config.terms.cross_entropy = term("cross_entropy", view="self_training")
    config.terms.regularizer = term("model_regularizer", penalty="kld_uniform", weight=0.01)
