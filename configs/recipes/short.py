"""Sets what trainings of some hundred steps share: starts, and the scale of the alignment."""

import ml_collections


def normalise_maps(config: ml_collections.ConfigDict) -> None:
    """Replaces self-information maps to align by normalised ones."""
    for found in config.terms.values():
        if found.get("aligned_map") == "self_information":
            found.aligned_map = "normalized_self_information"


def weigh_alignment(config: ml_collections.ConfigDict, weight: float) -> None:
    """Sets the weight of the alignment at the last stage: the method's own, or an addition's."""
    for name in ("adversarial", "adversarial_alp", "adversarial_agp"):
        if name in config.terms:
            config.terms[name].weight = weight


def set_warmup(
    config: ml_collections.ConfigDict, *, learning_rate: float, classifier_multiplier: float
) -> None:
    """Sets the training of a start: batch statistics, and all parameters learn."""
    config.num_steps = 1000
    config.data.batch_size = 8
    config.model.backbone.batch_norm_mode = "batch"
    config.model.backbone.batch_norm_train_affine = True
    config.optimizer.segmenter_learning_rate = learning_rate
    config.optimizer.classifier_learning_rate_multiplier = classifier_multiplier
    config.optimizer.weight_decay = 1e-4
    config.optimizer.gradient_clip_norm = 5.0
    config.optimizer.horizon_steps = 1000
    config.evaluation.every_steps = 500
    config.checkpoint.every_steps = 250
