"""Target batch norm: source-only training, with target images in the batch-norm statistics.

Not in the paper. Target images pass through the network and move the running statistics of batch
norm; nothing is aligned. It needs model.backbone.batch_norm_mode "running" or "batch".
"""

import ml_collections

from alp_jax.objective.settings import term, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the views and terms."""
    config.views.source = view("images", domain="source")
    config.views.target = view("images", domain="target")
    config.terms.cross_entropy = term("cross_entropy")
