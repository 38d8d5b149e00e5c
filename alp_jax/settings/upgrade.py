"""Upgrades configurations of earlier formats: pure functions of plain dicts.

Format 1 (versions before views and terms) has the flat blocks `objective`, `discriminator` and
`guards`, a flat `model`, and a number of classes in the place of a label set. The field `format`
holds the number of the format; format 1 lacks it.
"""

import copy
from collections.abc import Sequence
from typing import Any

Fields = dict[str, Any]

FORMAT = 2
# Fields that earlier versions of this format lack -> the value that does what they did. A star is
# any name; [KIND] is a block of that kind alone.
_ADDED: dict[str, Any] = {
    "init_heads": "same",
    "init_terms": "new",
    "updates": {"kind": "joint"},
    "teacher": {"kind": "none"},
    "model.prediction": ["main"],
    "model.heads.*[aspp].dropout_rate": 0.0,
    "optimizer.adam_preset": "clean",
    "optimizer.discriminator_optimizer": "adam",
    "optimizer.warmup_steps": 0,
    "terms.*.damping_steps": 0,
    "terms.*[alignment].halved": True,
    "terms.*[alignment].pixel_weights": {"kind": "none"},
    "terms.*[alignment].discriminators": "shared",
}
_OF_RESNET = (
    *("stem", "stem_widths", "block", "stride_in", "depths", "widths", "strides", "dilations"),
    *("batch_norm_mode", "batch_norm_train_affine", "kernel_init", "scan_blocks", "rematerialise"),
)


def upgrade_model(model: Fields) -> Fields:
    """Turns the flat network of format 1 into a backbone and heads.

    Args:
      model: `config.model` of format 1; a field that it lacks is also missing in the result, and an
        unknown field is still there.
    Returns:
      {"backbone": block, "heads": {name: block}} and the fields that stay.
    """
    rest = dict(model)
    backbone = {"kind": "resnet"} | {key: rest.pop(key) for key in _OF_RESNET if key in rest}
    stages = {"main": -1, "aux": -2} if rest.pop("aux_classifier", False) else {"main": -1}
    dilations = {}
    if "classifier_dilations" in rest:
        dilations = {"dilations": rest.pop("classifier_dilations")}
    heads = {head: {"kind": "aspp", "stage": at, **dilations} for head, at in stages.items()}
    upgraded = {"backbone": backbone, "heads": heads, **rest}
    _add_fields({"model": upgraded})
    return upgraded


def upgrade(config: Fields) -> Fields:
    """Converts a configuration of any format to the current one, without the field `format`.

    Args:
      config: the configuration as it was read; not changed.
    Raises:
      ValueError: if the format is newer than this version's.
      KeyError, TypeError: if a block or field is missing, or it is no dict.
    """
    if not isinstance(config, dict):
        raise TypeError("it is no JSON object")
    fields = dict(config)
    written = fields.pop("format", 1)
    if written not in (1, FORMAT):
        raise ValueError(f"its format is {written!r}, and this version reads 1 to {FORMAT}")
    current = copy.deepcopy(fields if written == FORMAT else _upgrade_from_1(fields))
    _add_fields(current)
    return current


def _add_fields(config: Fields) -> None:
    for path, value in _ADDED.items():
        _add(config, path.split("."), value)


def _add(block: Fields, path: Sequence[str], value: Any) -> None:
    """Sets a field that a block lacks; blocks that do not exist are left to the schema."""
    name, *below = path
    if not below:
        block.setdefault(name, copy.deepcopy(value))
        return
    name, _, kind = name.removesuffix("]").partition("[")
    for inner in list(block.values()) if name == "*" else [block.get(name)]:
        if isinstance(inner, dict) and kind in ("", inner.get("kind")):
            _add(inner, below, value)


def _upgrade_from_1(config: Fields) -> Fields:
    old = ("objective", "discriminator", "guards")
    objective, discriminator, guards = (config[name] for name in old)
    has_aux = config["model"]["aux_classifier"]
    blocks = upgrade_objective(objective, discriminator, guards, has_aux=has_aux)
    kept = {name: value for name, value in config.items() if name not in old}
    return upgrade_data(kept) | blocks | {"model": upgrade_model(config["model"])}


def upgrade_objective(
    objective: Fields, discriminator: Fields, guards: Fields, *, has_aux: bool
) -> Fields:
    """Converts the flat objective of format 1 to views and terms.

    Args:
      objective: `config.objective` of format 1.
      discriminator: `config.discriminator` of format 1.
      guards: `config.guards` of format 1.
      has_aux: whether the network has an auxiliary classifier.
    Returns:
      {"views": {name: block}, "terms": {name: block}}.
    """
    domains = ("source", "target") if objective["use_target"] else ("source",)
    heads = ("main", "aux") if has_aux else ("main",)
    views = {domain: _view(domain, objective) for domain in domains}
    terms = {}
    for head in heads:
        suffix = "" if head == "main" else f"_{head}"
        weight = 1.0 if head == "main" else objective["aux_cross_entropy_weight"]
        terms[f"cross_entropy{suffix}"] = {
            "kind": "cross_entropy",
            "view": "source",
            "head": head,
            "weight": weight,
        }
        if objective["use_target"] and objective["patch"] != "none":
            terms[f"adversarial{suffix}"] = _alignment(head, objective, discriminator, guards)
    return {"views": views, "terms": terms}


def _view(domain: str, objective: Fields) -> Fields:
    view = {
        "kind": "images",
        "domain": domain,
        "moves_statistics": domain in objective["batch_norm_update_domains"],
    }
    if objective["patch"] == "image_crop":
        size, count = objective["patch_size"], objective["num_patches"]
        view |= {"kind": "crops", "size": size, "num_crops": count}
    return view


def _alignment(head: str, objective: Fields, discriminator: Fields, guards: Fields) -> Fields:
    weight = "adversarial_weight" if head == "main" else "aux_adversarial_weight"
    return {
        "kind": "alignment",
        "source_view": "source",
        "target_view": "target",
        "head": head,
        "weight": objective[weight],
        "patches": _placement(objective),
        **{name: objective[name] for name in ("aligned_map", "decision", "game")},
        "widths": discriminator["widths"],
        "activation_dtype": discriminator["activation_dtype"],
        "watch_patience": guards["discriminator_patience"],
        "watch_tolerance": guards["discriminator_tolerance"],
    }


def _placement(objective: Fields) -> Fields:
    if objective["patch"] != "random":
        return {"kind": "whole"}
    size, count = objective["patch_size"], objective["num_patches"]
    return {"kind": "random", "patch_size": size, "num_patches": count}


def upgrade_label_set(num_classes: int) -> str:
    """Names the label set that format 1 named by its number of classes.

    Raises:
      ValueError: if it had no such label set.
    """
    if num_classes not in (19, 16, 13):
        raise ValueError(f"num_classes is {num_classes!r}: expected 19, 16 or 13")
    return f"cityscapes_{num_classes}"


def upgrade_data(fields: Fields) -> Fields:
    """Replaces `data.num_classes` by `data.label_set`; other fields stay.

    Also of configurations of alp_jax.domain_shift, which have no format.
    """
    data = fields.get("data")
    if not isinstance(data, dict) or "num_classes" not in data:
        return fields
    others = {name: value for name, value in data.items() if name != "num_classes"}
    return {**fields, "data": {**others, "label_set": upgrade_label_set(data["num_classes"])}}
