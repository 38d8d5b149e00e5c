"""MRENT: CBST whose predictions on pseudo-labels are kept from being too sure, by their entropy.

Zou et al., ICCV 2019. The published code (yzou2/CRST) has no such penalty, and no weight of it
either: 0.01, the weight of MRKLD, is ours.
"""

import ml_collections

from alp_jax.objective.settings import term
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the view, the terms and the rounds."""
    default.add_rounds(config)
    config.terms.cross_entropy = term("cross_entropy", view="self_training")
    config.terms.regularizer = term("model_regularizer", penalty="negative_entropy", weight=0.01)
