"""The paper's values for every field: GTA5 -> Cityscapes, DeepLabv2-ResNet101, and a method.

The fields are declared where they are read (`alp_jax/workdir/settings.py` collects them); a method
of `configs/methods` adds views and terms. Other configurations begin with this one:
gta5_to_cityscapes.py and synthia_to_cityscapes.py are the paper's experiments, image_folders.py is
for your own images, toy_cities.py for the built-in pair.

Cicek et al., "Spatial Class Distribution Shift in Unsupervised Domain Adaptation: Local Alignment
Comes to Rescue", ACCV 2020. Where the paper is silent, the values are those of AdvEnt's published
code, which it builds on; such fields are marked (AdvEnt). Override any field on the command line:
`--config.terms.adversarial.patches.patch_size=128,128`.
"""

from collections.abc import Collection, Iterator
from typing import Any

import ml_collections

from alp_jax.settings import kinds
from alp_jax.settings.schema import to_config
from alp_jax.workdir.settings import RunSettings

_METHODS = "configs.methods"


def get_config(variant: str = "alp_gi") -> ml_collections.ConfigDict:
    """Creates the configuration of a method.

    Args:
      variant: a file of configs/methods, without its ending, or the path of a file of your own.
    """
    config = to_config(RunSettings())
    apply_method(config, variant)
    return config.lock()


def list_methods() -> list[str]:
    """Lists the files of configs/methods."""
    return kinds.names(_METHODS)


def apply_method(config: ml_collections.ConfigDict, method: str) -> None:
    """Adds the views and terms of a method, by the `apply(config)` of its file.

    Raises:
      UserError: if there is no such method, or its file is wrong.
    """
    module = kinds.load_module(_METHODS, method, name="The method")
    with config.unlocked():
        kinds.run_function(module, "apply", config)


def is_method(variant: str) -> bool:
    """Returns whether a variant is a method: a file of configs/methods, or a path of your own."""
    return variant.endswith(".py") or variant in list_methods()


def check_variant(variant: str, others: Collection[str] = ()) -> None:
    """Raises ValueError if a variant is neither a method nor one of `others`."""
    if not is_method(variant) and variant not in others:
        expected = ", ".join(dict.fromkeys((*list_methods(), *others)))
        raise ValueError(
            f"Unknown variant {variant!r}: expected one of {expected}, or the path of a .py file "
            "of your own."
        )


def set_everywhere(blocks: ml_collections.ConfigDict, **values: Any) -> None:
    """Sets a field in every block, and every block inside, that has it.

    Args:
      blocks: `config.terms` or `config.views`.
      values: field -> value.
    """
    for block in _walk(blocks):
        for name, value in values.items():
            if name in block:
                block[name] = value


def _walk(block: ml_collections.ConfigDict) -> Iterator[ml_collections.ConfigDict]:
    yield block
    for value in block.values():
        if isinstance(value, ml_collections.ConfigDict):
            yield from _walk(value)
