"""Sets what the methods of self-training in rounds share: the published values of CRST.

yzou2/CRST, crst_seg.py, GTA5 -> Cityscapes: 3 rounds of 2 epochs, batches of two crops of 512x1024,
SGD at a constant 5e-5 (decoder 5e-4), frozen batch norm. The start is a network trained on the
source, and images have their own size, 1052x1914 and 1024x2048.
"""

from typing import Any

import ml_collections

from alp_jax.objective.settings import term, view


def apply(config: ml_collections.ConfigDict, **fields: Any) -> None:
    """Adds the view and the cross-entropy of pseudo-labels, and the rounds.

    Args:
      config: configuration of a run.
      fields: of `config.rounds`, other than CRST's.
    """
    config.views.self_training = view("images", domain="self_training")
    config.terms.cross_entropy = term("cross_entropy", view="self_training")
    config.rounds.num_rounds = 3
    config.rounds.update(fields)
    config.num_steps = config.rounds.num_rounds * config.rounds.steps_per_round
    config.data.batch_size = 2
    config.model.backbone.batch_norm_mode = "frozen"
    config.optimizer.segmenter_learning_rate = 5e-5
    config.optimizer.poly_power = 0.0
