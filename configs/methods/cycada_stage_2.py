"""CyCADA's second stage: aligns the scores of translated source images and target images.

Hoffman et al., ICML 2018; code: jhoffman/cycada_release, scripts/train_fcn_adda.sh and .py, which
reports 39.5 % mean IoU for GTA5 -> Cityscapes with DRN-26. Its first stage trains a CycleGAN that
translates the source to the target's look; that is not built here. Prepare the translated images
with their labels as a dataset (data_prep.image_folder), train `source_only` on it, and give that
run as --config.init_from and the dataset as --config.data.source.

As published: the discriminator sees scores, not probabilities; its weight is 1 and the segmenter's
0.1; both have SGD of rate 1e-5, momentum 0.99 and weight decay 5e-4, and a constant schedule.
Deviations: published code updates the discriminator first, then the segmenter by the new one if the
discriminator was right in more than 60 % of the last 100 steps, and then by the labels in an update
of its own; here both players move at once, in every step. Its discriminator has other layers, and
its images are crops of 768 pixels.
"""

import ml_collections

from alp_jax.objective.settings import placement, term, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the views, the terms and the optimizers' numbers."""
    config.views.source = view("images", domain="source")
    config.views.target = view("images", domain="target")
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.adversarial = term("alignment", weight=0.1, aligned_map="logits")
    config.terms.adversarial.patches = placement("whole")
    config.optimizer.sgd_preset = "clean"
    config.optimizer.segmenter_learning_rate = 1e-5
    config.optimizer.classifier_learning_rate_multiplier = 1.0
    config.optimizer.momentum = 0.99
    config.optimizer.discriminator_optimizer = "sgd"
    config.optimizer.discriminator_learning_rate = 1e-5
    config.optimizer.poly_power = 0.0
