"""CLAN: aligns the softmax of two classifiers most where they disagree.

Luo et al., CVPR 2019; code: RoyalVane/CLAN, CLAN_train.py, which reports 43.2 % mean IoU for GTA5
-> Cityscapes, the best snapshot by validation labels. As there: focal cross-entropy, the cosine of
the classifiers' weights, decisions upsampled to pixels, a discriminator whose loss is not halved,
and weights that fall to 0 in 100,000 steps. The published schedule is set, too: 5000 steps of
warm-up, then (1 - step / 100,000) ** 0.9. For SYNTHIA the published factor of the disagreement is
10: --config.terms.adversarial.pixel_weights.factor=10. Not set: random scales, which published code
draws for the images of both domains, and mirrored images (config.data.flip_probability=0.5).
"""

import ml_collections

from alp_jax.models.settings import head
from alp_jax.objective.settings import pixel_weights, placement, term, view

_STEPS = 100_000


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the second classifier, the views, the terms and the schedule."""
    config.model.heads.second = head("aspp")
    config.model.prediction = ("main", "second")
    config.model.backbone.batch_norm_mode = "batch"
    config.views.source = view("images", domain="source")
    config.views.target = view("images", domain="target")
    config.terms.focal = term("focal_cross_entropy")
    config.terms.focal_second = term("focal_cross_entropy", head="second")
    config.terms.weight_cosine = term("weight_cosine", weight=0.02, damping_steps=_STEPS)
    config.terms.adversarial = term(
        "alignment",
        head="main+second",
        aligned_map="softmax",
        decision="pixel",
        halved=False,
        damping_steps=_STEPS,
    )
    config.terms.adversarial.patches = placement("whole")
    config.terms.adversarial.pixel_weights = pixel_weights("disagreement")
    config.optimizer.warmup_steps = 5000
    config.optimizer.horizon_steps = _STEPS
    config.num_steps = _STEPS
