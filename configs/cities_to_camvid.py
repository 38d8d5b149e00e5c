"""Adapts from a drawn city to photographs: the built-in source -> CamVid, eleven classes.

How to prepare and run it, and the variants: recipes/photos.py.
"""

import ml_collections

from configs.recipes import photos


def get_config(variant: str = "alp_gi") -> ml_collections.ConfigDict:
    """Creates the configuration of a variant."""
    return photos.create(
        variant,
        "runs/cities_to_camvid",
        source="toy_cities/source_180x240",
        target="camvid/by_sequence_unlabelled_180x240",
        evaluation="camvid/by_sequence_180x240",
        label_set="camvid_11",
    )
