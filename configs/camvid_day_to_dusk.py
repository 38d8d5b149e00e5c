"""Adapts from day to dusk in Cambridge: CamVid, eleven classes.

How to prepare and run it, and the variants: recipes/photos.py.
"""

import ml_collections

from configs.recipes import photos


def get_config(variant: str = "alp_gi") -> ml_collections.ConfigDict:
    """Creates the configuration of a variant."""
    return photos.create(
        variant,
        "runs/camvid_day_to_dusk",
        source="camvid/day_180x240",
        source_split="train+validation+test",
        target="camvid/dusk_unlabelled_180x240",
        evaluation="camvid/dusk_180x240",
        label_set="camvid_11",
    )
