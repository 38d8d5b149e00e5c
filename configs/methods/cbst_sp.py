"""CBST-SP: CBST with a spatial prior, the frequency of each class at each position of the source.

Zou et al., ECCV 2018; code: yzou2/CBST, here with the optimizer and schedule of CRST. That code
reads the prior from a file. That it is smoothed by a kernel of 70 pixels is from the paper (from
memory); a Gaussian kernel of 71 is our choice.
"""

import ml_collections

from alp_jax.objective.settings import term
from configs import default


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the view, the term and the rounds."""
    default.add_rounds(config, prior="spatial", prior_blur=71)
    config.terms.cross_entropy = term("cross_entropy", view="self_training")
