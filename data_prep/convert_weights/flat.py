"""Writes a network to the flat config.model of format 1.

To delete when configs/default.py has the new blocks: `run_config.model = to_config(model)` is all.
"""

import ml_collections

from alp_jax.models.settings import ModelSettings
from alp_jax.settings.schema import to_config


def write_model(run_config: ml_collections.ConfigDict, model: ModelSettings) -> None:
    """Replaces the network of a configuration."""
    fields = to_config(model)
    flat = {**fields.backbone.to_dict(), **fields.to_dict()}
    flat["aux_classifier"] = "aux" in fields.heads
    flat["classifier_dilations"] = fields.heads.main.dilations
    for name in run_config.model:
        run_config.model[name] = flat[name]
