"""FDA: source images with the low frequencies of target images, and low entropy on the target.

Yang and Soatto, CVPR 2020; code: YanchaoYang/FDA, which reports 50.45 % mean IoU for GTA5 ->
Cityscapes, three networks together (beta 0.01, 0.05 and 0.09) after a stage of self-training. This
is the first stage of one network. Weight and penalty of the entropy are those
of the command in its README. Deviations: the frequencies that are exchanged
(`alp_jax/objective/views/fourier.py`), and whole images, where the code cuts source images to the
size of the target's.
"""

import ml_collections

from alp_jax.objective.settings import term, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the views and terms."""
    config.views.source = view("fourier")
    config.views.target = view("images", domain="target")
    config.model.backbone.batch_norm_mode = "batch"
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.entropy = term("entropy", weight=0.005, exponent=2.0, resolution="logits")
    config.num_steps, config.optimizer.horizon_steps = 100_000, 150_000
