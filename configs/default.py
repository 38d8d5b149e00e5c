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

from collections.abc import Collection, Iterator
from typing import Any

import ml_collections

from alp_jax.errors import UserError, describe_near
from alp_jax.models.settings import head
from alp_jax.objective.settings import term, view
from alp_jax.settings import kinds, members
from alp_jax.settings.schema import to_config
from alp_jax.workdir.settings import RunSettings

_METHODS = "configs.methods"
_ADDITIONS = "configs.additions"


DEFAULT = "alp_gi"


def get_config(variant: str = DEFAULT) -> ml_collections.ConfigDict:
    """Creates the configuration of a method.

    Args:
      variant: name of a file in configs/methods, without .py, or the path of a file of your own;
        then, each after a +, names or paths of additions, such as minent+alp.
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


def list_additions() -> list[str]:
    """Lists the names of the additions in configs/additions."""
    return kinds.names(_ADDITIONS)


def split_variant(variant: str) -> tuple[str, tuple[str, ...]]:
    """Splits a variant into its method and additions: minent+alp."""
    method, *additions = variant.split("+")
    return method, tuple(additions)


def apply_method(config: ml_collections.ConfigDict, variant: str) -> None:
    """Adds the views and terms of a variant by calling `apply(config)` of each of its files.

    Raises:
      EnsembleError: if the method is an ensemble of others, which is not trained.
      UserError: if there is no such method or addition, one is named twice, or its file cannot be
        imported or lacks `apply`.
    """
    method, additions = split_variant(variant)
    if len(set(additions)) < len(additions):
        raise UserError(f"The variant is {variant!r}: expected each addition once.")
    if found := read_members(method):
        raise members.EnsembleError(method, found)
    modules = [kinds.load_module(_METHODS, method, name="The method")]
    modules += [kinds.load_module(_ADDITIONS, name, name="The addition") for name in additions]
    with config.unlocked():
        for module in modules:
            kinds.run_function(module, "apply", config)


def is_method(variant: str) -> bool:
    """Returns whether a variant's method is a name in configs/methods, or a .py file's path."""
    method, _ = split_variant(variant)
    return method.endswith(".py") or method in kinds.names(_METHODS)


def check_variant(variant: str, others: Collection[str] = ()) -> None:
    """Raises UserError if a variant is neither a method nor one of `others`."""
    if not is_method(variant) and variant not in others:
        method, additions = split_variant(variant)
        if additions and method in others:
            raise UserError(
                f"The variant is {variant!r}, and {method} takes no additions: expected {method}, "
                f"or a method with {'+'.join(additions)}, such as {DEFAULT}+{additions[0]}."
            )
        known = list(dict.fromkeys((*kinds.names(_METHODS), *others)))
        raise UserError(
            f"Unknown variant {variant!r}{describe_near(method, known)}: expected one of "
            f"{', '.join(known)}, or the path of a .py file of your own."
        )


def add_domains(config: ml_collections.ConfigDict) -> None:
    """Adds the views of the images of both domains where a method lacks them."""
    for domain in ("source", "target"):
        if domain not in config.views:
            config.views[domain] = view("images", domain=domain)


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


def add_levels(config: ml_collections.ConfigDict, **terms: ml_collections.ConfigDict) -> None:
    """Adds both domains and the two levels of AdaptSegNet and AdvEnt: terms of two classifiers.

    wasidennis/AdaptSegNet and valeoai/ADVENT: an auxiliary classifier reads the last stage but one.
    Its cross-entropy weighs 0.1, and each other term a fifth of the main classifier's: 0.0002
    beside 0.001. Batch norm uses batch statistics.

    Args:
      config: configuration that a method changes.
      terms: name -> block of a term of the head main; its copy of the head aux is NAME_aux.
    """
    add_domains(config)
    config.model.heads.aux = head("aspp", stage=-2)
    config.model.backbone.batch_norm_mode = "batch"
    config.terms.cross_entropy = term("cross_entropy")
    config.terms.cross_entropy_aux = term("cross_entropy", head="aux", weight=0.1)
    for name, block in terms.items():
        config.terms[name] = block
        auxiliary = config.terms[f"{name}_aux"] = block.copy_and_resolve_references()
        auxiliary.head, auxiliary.weight = "aux", block.weight / 5


def add_rounds(config: ml_collections.ConfigDict, **fields: Any) -> None:
    """Adds self-training in rounds, with the published values that its methods share.

    yzou2/CRST, crst_seg.py, GTA5 -> Cityscapes: 3 rounds of 2 epochs, batches of two crops of
    512x1024, SGD at a constant 5e-5 (decoders 5e-4), frozen batch norm. There the start is a
    network trained on the source, and images have their own sizes, 1052x1914 and 1024x2048.
    Deviation: sizes of images are those of the other methods; with targets of 512x1024 a crop is
    the whole image unless it was enlarged (docs/methods_rounds.md has the flags of the published).

    Args:
      config: configuration that a method changes.
      fields: of `config.rounds`, other than CRST's.
    """
    config.views.self_training = view("images", domain="self_training")
    config.rounds.num_rounds = 3
    config.rounds.update(fields)
    config.num_steps = config.rounds.num_rounds * config.rounds.steps_per_round
    config.data.batch_size = 2
    config.model.backbone.batch_norm_mode = "frozen"
    config.optimizer.segmenter_learning_rate = 5e-5
    config.optimizer.poly_power = 0.0


def _walk(block: ml_collections.ConfigDict) -> Iterator[ml_collections.ConfigDict]:
    yield block
    for value in block.values():
        if isinstance(value, ml_collections.ConfigDict):
            yield from _walk(value)
