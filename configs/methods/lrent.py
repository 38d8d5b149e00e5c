"""LRENT: CBST with soft pseudo-labels, which are kept from being too sure.

Zou et al., ICCV 2019; code: yzou2/CRST, which reports 46.51 % mean IoU for GTA5 -> Cityscapes, from
a source-only 33.35 %, with three scales and mirrored images in testing. alpha = 0.25. Soft labels
are computed of each crop by the network that the round began with, instead of stored.
"""

import ml_collections

from alp_jax.objective.settings import teacher, term, view
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the view, the term, the teacher and the rounds."""
    default.add_rounds(config)
    config.views.self_training = view("soft_labelled")
    config.teacher = teacher("round_start", temperature=0.25)
    config.terms.soft_cross_entropy = term("soft_cross_entropy")
