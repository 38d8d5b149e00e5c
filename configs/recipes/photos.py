"""Defines what the configurations of real photographs share: network, sizes, steps and rates.

  python -m data_prep.idd_lite --raw_dir=RAW/idd20k_lite --data_dir=datasets --size=180,240
  python -m data_prep.camvid --raw_dir=RAW/CamVid --data_dir=datasets --size=180,240
  python -m data_prep.toy_cities --data_dir=datasets --height=180 --width=240
  python -m data_prep.convert_weights --input=efficientnet_lite0 \\
    --output=pretrained/efficientnet_lite0
  python -m alp_jax.main --config=idd_to_camvid:warmup --workdir=runs/idd_to_camvid/warmup
  python -m alp_jax.main --config=idd_to_camvid:alp_gi --workdir=runs/idd_to_camvid/alp_gi

Each pair of domains needs two of the datasets: configs/idd_to_camvid.py, camvid_to_idd.py,
camvid_day_to_dusk.py and cities_to_camvid.py. Variants: the methods of configs/methods, and

- `warmup`: source-only training from ImageNet features; every method starts from it.
- `warmup_from_scratch` and `source_only_from_scratch`: the same from random weights, to see what
  the features are worth.

The network is EfficientNet-Lite0 of output stride 16 with DeepLabv2's classifier.
"""

import ml_collections

from alp_jax.models.settings import backbone
from configs import default
from configs.recipes import short

SIZE = (180, 240)
PATCH_SIZE = (90, 90)  # Half the images' height, as in the paper.
SCRATCH = "_from_scratch"
OTHERS = ("warmup", f"warmup{SCRATCH}", f"source_only{SCRATCH}")


def create(
    variant: str,
    runs: str,
    *,
    source: str,
    target: str,
    evaluation: str,
    label_set: str,
    source_split: str = "train",
) -> ml_collections.ConfigDict:
    """Creates the configuration of a method, or of one of OTHERS, for a pair of domains.

    Args:
      variant: name of the method.
      runs: folder of the runs, where a start is looked for.
      source: labelled dataset.
      target: dataset without labels, or whose labels are not read.
      evaluation: labelled dataset of the target, with splits validation and test.
      label_set: classes that both have.
      source_split: splits of the source to train on.
    """
    default.check_variant(variant, OTHERS)
    method = variant.removesuffix(SCRATCH)
    is_warmup = method == "warmup"
    config = default.get_config("source_only" if is_warmup else method)
    with config.unlocked():
        config.data.update(
            source=source,
            source_split=source_split,
            target=target,
            label_set=label_set,
            source_size=SIZE,
            target_size=SIZE,
            flip_probability=0.5,
        )
        config.evaluation.update(
            dataset=evaluation, split="validation", reported_split="test", batch_size=10
        )
        _set_network(config)
        _set_objective(config)
        if is_warmup:
            short.set_warmup(config, learning_rate=0.01, classifier_multiplier=10.0)
            config.init_from = "" if variant.endswith(SCRATCH) else "pretrained/efficientnet_lite0"
        else:
            _set_adaptation(config)
            config.start_variant = f"warmup{SCRATCH}" if variant.endswith(SCRATCH) else "warmup"
            config.init_from = f"{runs}/{config.start_variant}"
            if default.split_variant(variant)[0] == "target_bn":
                config.model.backbone.batch_norm_mode = "running"  # "frozen" would change nothing.
    return config


def _set_network(config: ml_collections.ConfigDict) -> None:
    config.model.backbone = backbone("efficientnet_lite", output_stride=16)
    config.optimizer.sgd_preset = "clean"
    config.model.input_order = "rgb"
    config.model.input_mean = (127.0, 127.0, 127.0)
    config.model.input_std = (128.0, 128.0, 128.0)
    default.set_everywhere(config.model.heads, dilations=(1, 3, 6, 9))


def _set_objective(config: ml_collections.ConfigDict) -> None:
    default.set_everywhere(config.views, size=PATCH_SIZE, num_crops=4, beta=0.02)
    default.set_everywhere(
        config.terms,
        patch_size=PATCH_SIZE,
        num_patches=2,
        rows=2,
        columns=2,
        widths=(32, 64, 128, 256),
    )
    short.normalise_maps(config)


def _set_adaptation(config: ml_collections.ConfigDict) -> None:
    config.num_steps = 400
    config.data.batch_size = 1  # As in the paper.
    config.model.backbone.batch_norm_mode = "frozen"
    config.optimizer.adam_preset = "clean"
    config.optimizer.segmenter_learning_rate = 2e-3
    config.optimizer.classifier_learning_rate_multiplier = 1.0
    config.optimizer.discriminator_learning_rate = 1e-3
    config.optimizer.gradient_clip_norm = 5.0
    config.optimizer.horizon_steps = 400
    short.weigh_alignment(config, 0.01)
    config.evaluation.every_steps = 100
    config.checkpoint.every_steps = 100
