"""Adapts from Cambridge to streets of India: CamVid -> IDD-Lite, seven classes.

How to prepare and run it, and the variants: recipes/photos.py.
"""

import ml_collections

from configs.recipes import photos


def get_config(variant: str = "alp_gi") -> ml_collections.ConfigDict:
    """Creates the configuration of a variant."""
    return photos.create(
        variant,
        "runs/camvid_to_idd",
        source="camvid/by_sequence_180x240",
        source_split="train+validation+test",
        target="idd_lite/unlabelled_180x240",
        evaluation="idd_lite/by_drive_180x240",
        label_set="street_7",
    )
