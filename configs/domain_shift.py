"""Measures how well patches of label maps reveal their domain: Figure 1 of Cicek et al., ACCV 2020.

  python -m alp_jax.domain_shift --config=configs/domain_shift.py:gta5 --output=runs/shift_gta5

Variants: `gta5` and `synthia`, each to Cityscapes (prepared as described in gta5_to_cityscapes.py
and synthia_to_cityscapes.py), and `toy_cities`, the built-in pair: about 24 minutes on one CPU
core. For your own folders (image_folders.py) set --config.data.source, --config.data.target and
other fields that differ.

Target labels are read: this analyses a pair of domains. No adaptation sees these labels.

From the paper (section 4.1): ResNet-18 from scratch, maps of 512x1024 before and after cropping,
SGD with these rates, validation every 100 steps on 500 held-out source maps and 500 maps of the
target's validation split, three runs. The paper does not give the batch size, the number of steps
or all patch sizes: these are our choice.
"""

import ml_collections

from alp_jax.domain_shift.settings import ShiftSettings
from alp_jax.errors import UserError, describe_near
from alp_jax.settings.schema import to_config

VARIANTS = ("gta5", "synthia", "toy_cities")


def get_config(variant: str = "gta5") -> ml_collections.ConfigDict:
    """Creates the configuration of one of VARIANTS."""
    if variant not in VARIANTS:
        raise UserError(
            f"Unknown variant {variant!r}{describe_near(variant, VARIANTS)}: expected one of "
            f"{', '.join(VARIANTS)}."
        )
    config = to_config(ShiftSettings())
    if variant == "synthia":
        config.data.source = "synthia_rand_cityscapes/all_760x1280"
        config.data.label_set = "cityscapes_16"
    elif variant == "toy_cities":
        _set_toy_cities(config)
    return config.lock()


def _set_toy_cities(config: ml_collections.ConfigDict) -> None:
    """Sets the toy cities: an eighth of each side, a quarter of the channels, a fifth of steps."""
    config.patch_sizes = (8, 16, 32, 48)
    config.num_steps = 400
    config.eval_every_steps = 50
    config.num_validation = 200
    config.widths = (16, 32, 64, 128)
    config.data.label_set = "cityscapes_16"
    config.data.source = "toy_cities/source"
    config.data.target = "toy_cities/target_train_labels"
    config.data.target_validation = "toy_cities/target"
    config.data.size = (64, 128)
