"""Sets every field to the paper's value: GTA5 -> Cityscapes, DeepLabv2-ResNet101, and a method.

Fields are declared where the code reads them (`alp_jax/workdir/settings.py` collects them); a
method of `configs/methods` adds views and terms. Other configurations start from this one:
gta5_to_cityscapes.py and synthia_to_cityscapes.py are the paper's experiments, image_folders.py is
for your own images, toy_cities.py for the built-in pair.

Cicek et al., "Spatial Class Distribution Shift in Unsupervised Domain Adaptation: Local Alignment
Comes to Rescue", ACCV 2020. Values that the paper does not give come from AdvEnt's published code,
which the paper builds on; such fields are marked (AdvEnt). Override any field on the command line:
`--config.terms.adversarial.patches.patch_size=128,128`.
"""

import pathlib
from collections.abc import Collection, Iterator
from typing import Any

import ml_collections

from alp_jax.errors import UserError, describe_near
from alp_jax.settings import kinds, members
from alp_jax.settings.schema import to_config
from alp_jax.workdir.settings import RunSettings

_METHODS = "configs.methods"
_ADDITIONS = "configs.additions"


def get_config(variant: str = "alp_gi") -> ml_collections.ConfigDict:
    """Creates the configuration of a method.

    Args:
      variant: name of a file in configs/methods, without .py, or the path of a file of your own;
        METHOD+ADDITION for one with an addition of configs/additions, or with one of your own.
    """
    config = to_config(RunSettings())
    apply_method(config, variant)
    return config.lock()


def list_methods() -> list[str]:
    """Lists the names of the methods in configs/methods that are trained."""
    return [name for name in kinds.names(_METHODS) if read_members(name) is None]


def list_ensembles() -> list[str]:
    """Lists the names of the methods in configs/methods that are ensembles of others."""
    return [name for name in kinds.names(_METHODS) if read_members(name) is not None]


def read_members(method: str) -> dict[str, float] | None:
    """Reads the members of a method: method -> weight; None if it is trained itself.

    Raises:
      UserError: if there is no such method, or its file cannot be imported or is wrong.
    """
    return members.read_members(kinds.load_module(_METHODS, method, name="The method"))


def split_variant(variant: str) -> tuple[str, tuple[str, ...]]:
    """Splits METHOD+ADDITION into the method and its additions; a method alone has none."""
    if pathlib.Path(variant).suffix == ".py" and pathlib.Path(variant).is_file():
        return variant, ()
    method, *additions = variant.split("+")
    return method, tuple(additions)


def apply_method(config: ml_collections.ConfigDict, variant: str) -> None:
    """Adds the views and terms of a method, and of additions, by `apply(config)` of their files.

    Raises:
      EnsembleError: if the method is an ensemble of others, which is not trained.
      UserError: if there is no such method or addition, or its file cannot be imported or lacks
        `apply`.
    """
    method, additions = split_variant(variant)
    if found := read_members(method):
        if additions:
            raise UserError(
                f"{variant} adds to an ensemble, which is not trained: expected an addition to one "
                f"of its members, {', '.join(found)}."
            )
        raise members.EnsembleError(method, found)
    modules = [kinds.load_module(_METHODS, method, name="The method")]
    modules += [kinds.load_module(_ADDITIONS, name, name="The addition") for name in additions]
    with config.unlocked():
        for module in modules:
            kinds.run_function(module, "apply", config)


def is_method(variant: str) -> bool:
    """Returns whether a variant is a method, perhaps with additions: names, or .py files' paths."""
    method, additions = split_variant(variant)
    return _is_of(_METHODS, method) and all(_is_of(_ADDITIONS, name) for name in additions)


def _is_of(package: str, name: str) -> bool:
    return name.endswith(".py") or name in kinds.names(package)


def check_variant(variant: str, others: Collection[str] = ()) -> None:
    """Raises UserError if a variant is neither a method nor one of `others`."""
    if not is_method(variant) and variant not in others:
        known = list(dict.fromkeys((*kinds.names(_METHODS), *others)))
        raise UserError(
            f"Unknown variant {variant!r}{describe_near(variant, known)}: expected one of "
            f"{', '.join(known)}, or the path of a .py file of your own; and METHOD+ADDITION with "
            f"{' or '.join(kinds.names(_ADDITIONS))}."
        )


def set_everywhere(blocks: ml_collections.ConfigDict, **values: Any) -> None:
    """Sets fields in every block, at any depth, that has them.

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
