"""Measures how well patches of real label maps reveal their domain, for pairs of recipes/photos.py.

  python -m alp_jax.domain_shift --config=domain_shift_photos:idd_to_camvid --output=runs/shift_idd

Variants: the pairs, each a file of configurations. Target labels are read: this analyses a pair of
domains. A fifth of the label maps' sides and a quarter of the channels of the paper's ResNet-18.
"""

import ml_collections

from alp_jax.domain_shift.settings import ShiftSettings
from alp_jax.errors import UserError, describe_near
from alp_jax.settings import kinds
from alp_jax.settings.schema import to_config

VARIANTS = ("idd_to_camvid", "camvid_to_idd", "camvid_day_to_dusk", "cities_to_camvid")


def get_config(variant: str = "idd_to_camvid") -> ml_collections.ConfigDict:
    """Creates the configuration of a pair."""
    if variant not in VARIANTS:
        raise UserError(
            f"Unknown variant {variant!r}{describe_near(variant, VARIANTS)}: expected one of "
            f"{', '.join(VARIANTS)}."
        )
    pair = kinds.load_module("configs", variant).get_config("source_only")
    config = to_config(ShiftSettings())
    config.data.update(
        label_set=pair.data.label_set,
        source=pair.data.source,
        source_split=pair.data.source_split,
        target=pair.evaluation.dataset,
        target_split="train",
        target_validation=pair.evaluation.dataset,
        target_validation_split="validation",
        size=pair.data.source_size,
    )
    config.patch_sizes = (23, 45, 90, 135)
    config.num_steps = 400
    config.eval_every_steps = 50
    config.num_validation = 100
    config.widths = (16, 32, 64, 128)
    return config.lock()
