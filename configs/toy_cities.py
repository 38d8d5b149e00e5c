"""Trains a small network from scratch on the built-in pair of cities, in minutes on a CPU.

  python -m data_prep.toy_cities --data_dir=datasets
  python -m alp_jax.main --config=configs/toy_cities.py:warmup --workdir=runs/toy_cities/warmup
  python -m alp_jax.main --config=configs/toy_cities.py:alp_gi --workdir=runs/toy_cities/alp_gi

Variants: the methods of configs/methods, and

- `warmup`: source-only training from scratch, in place of pretrained weights; every method but
  `ap_ci` starts from its checkpoint.
- `warmup_crops`: the same on crops, for `ap_ci`, which never sees a whole image.
- `ap_ci_equal_pixels` and its start `warmup_crops_equal_pixels`: with so many crops that a step has
  as many pixels as a step of the other methods.
"""

import ml_collections

from alp_jax.objective.settings import view
from configs import default
from configs.recipes import short

RUNS = "runs/toy_cities"
WARMUPS = ("warmup", "warmup_crops", "warmup_crops_equal_pixels")
EQUAL_PIXELS = "ap_ci_equal_pixels"


def get_config(variant: str = "alp_gi") -> ml_collections.ConfigDict:
    """Creates the configuration of a method, EQUAL_PIXELS or one of WARMUPS."""
    default.check_variant(variant, (EQUAL_PIXELS, *WARMUPS))
    method = variant.removesuffix("_equal_pixels")
    is_warmup = method in WARMUPS
    config = default.get_config("source_only" if is_warmup else method)
    with config.unlocked():
        _set_data_and_model(config)
        if method == "warmup_crops":
            config.views.source = view("crops", domain="source")
        _set_objective(config)
        if is_warmup:
            # Nothing is pretrained, so the classifier has the rate of the rest.
            short.set_warmup(config, learning_rate=0.05, classifier_multiplier=1.0)
        else:
            _set_adaptation(config)
            config.start_variant = find_start(variant)
            config.init_from = f"{RUNS}/{config.start_variant}"
        if variant.endswith("_equal_pixels"):
            # Eight crops of 32x32 have as many pixels as one image of 64x128.
            default.set_everywhere(config.views, num_crops=8)
        if default.split_variant(variant)[0] == "target_bn":
            config.model.backbone.batch_norm_mode = "running"  # "frozen" would make it source_only.
    return config


def find_start(variant: str) -> str:
    """Returns the warmup variant that a method starts from."""
    starts = {"ap_ci": "warmup_crops", EQUAL_PIXELS: "warmup_crops_equal_pixels"}
    return starts.get(default.split_variant(variant)[0], "warmup")


def _set_data_and_model(config: ml_collections.ConfigDict) -> None:
    config.data.label_set = "cityscapes_16"
    config.data.source = "toy_cities/source"
    config.data.target = "toy_cities/target_unlabelled"
    config.data.source_size = (64, 128)
    config.data.target_size = (64, 128)
    config.data.flip_probability = 0.5

    config.model.backbone.stem = "two_convs"
    config.model.backbone.stem_widths = (24, 48)
    config.model.backbone.block = "basic"
    config.model.backbone.depths = (2, 2, 1)
    config.model.backbone.widths = (48, 48, 48)
    config.model.backbone.strides = (1, 1, 1)  # Output stride 4, all of it in the stem.
    config.model.backbone.dilations = (1, 2, 4)
    default.set_everywhere(config.model.heads, dilations=(1, 3, 6, 9))
    config.model.backbone.kernel_init = "he_normal"
    config.model.input_order = "rgb"
    config.model.input_mean = (110.0, 110.0, 110.0)
    config.model.input_std = (60.0, 60.0, 60.0)
    config.optimizer.sgd_preset = "clean"  # One update per step, at the rates below.
    config.optimizer.adam_preset = "clean"
    config.evaluation.dataset = "toy_cities/target"
    config.evaluation.reported_split = "test"
    config.evaluation.batch_size = 20
    config.log_every_steps = 25


def _set_objective(config: ml_collections.ConfigDict) -> None:
    """Sets patches and crops of half the images' height, as in the paper (256 of 512).

    Cells of a grid have at least that height, too, and FDA exchanges as many frequencies, up to 5
    cycles in an image's height, as its 0.01 does in images of 512.
    """
    default.set_everywhere(config.views, size=(32, 32), num_crops=4, beta=0.08)
    default.set_everywhere(
        config.terms,
        patch_size=(32, 32),
        num_patches=4,
        rows=2,
        columns=2,
        widths=(16, 32, 64, 128),
    )
    short.normalise_maps(config)


def _set_adaptation(config: ml_collections.ConfigDict) -> None:
    config.num_steps = 500
    config.data.batch_size = 4
    # Running statistics that follow target images adapt a network by themselves (README.md); with
    # frozen ones the effect of the alignment alone is measured.
    config.model.backbone.batch_norm_mode = "frozen"
    # The best of 0.003, 0.01 and 0.03 for alp_gi, seed 0, by mean IoU on the target validation
    # split, so chosen with target labels (for agp_gi, 0.003 was best); quoted scores are on the
    # test split.
    short.weigh_alignment(config, 0.01)
    # The paper's 1e-4 is for 150,000 steps; in 500 steps a discriminator hardly learns with it. The
    # largest of 1e-4, 5e-4 and 1e-3, for every method.
    config.optimizer.discriminator_learning_rate = 1e-3
    config.optimizer.segmenter_learning_rate = 2e-3
    if config.optimizer.discriminator_optimizer == "sgd":
        # CyCADA's players have one rate, and a momentum of 0.99, with which steps add up to ten
        # times those of 0.9.
        config.optimizer.segmenter_learning_rate = 2e-4
        config.optimizer.discriminator_learning_rate = 2e-4
    config.optimizer.classifier_learning_rate_multiplier = 1.0
    config.optimizer.gradient_clip_norm = 5.0
    config.optimizer.horizon_steps = 500
    # CLAN's weights fall to 0 at its last step, and its warm-up is a twentieth of all steps.
    if config.optimizer.warmup_steps:
        config.optimizer.warmup_steps = 25
    for found in config.terms.values():
        if found.damping_steps:
            default.set_everywhere(found, damping_steps=500, after_step=25)
    if config.rounds.num_rounds:
        config.rounds.num_rounds, config.rounds.steps_per_round = 4, 125
        # One prediction of each image in place of two at 0.9 of its size, which would take longer
        # than the training.
        config.rounds.prediction_scales, config.rounds.prediction_flip = (1.0,), False
        config.rounds.crop_size = (64, 128)  # The pixels of an image of other methods, as in CRST.
        config.rounds.prior_blur = min(config.rounds.prior_blur, 5)
    config.evaluation.every_steps = 50  # Ten evaluations; a study also reports their mean.
    config.checkpoint.every_steps = 100
