"""Upgrades configurations of earlier formats: pure functions of plain dicts.

Format 1 (versions before views and terms) had one flat `objective`, `discriminator` and `guards`.
A configuration says its format in the field `format`; format 1 has none.
"""

from typing import Any

Fields = dict[str, Any]

FORMAT = 2


def upgrade(config: Fields) -> Fields:
    """Turns a configuration of any format into one of the present format, without its `format`.

    Args:
      config: as it was read; not changed.
    Raises:
      ValueError: if its format is newer than this version's.
      KeyError, TypeError: if it lacks a block or field, or is no dict.
    """
    if not isinstance(config, dict):
        raise TypeError("it is no JSON object")
    fields = dict(config)
    written = fields.pop("format", 1)
    if written not in (1, FORMAT):
        raise ValueError(f"its format is {written!r}, and this version reads 1 to {FORMAT}")
    return fields if written == FORMAT else _upgrade_from_1(fields)


def _upgrade_from_1(config: Fields) -> Fields:
    old = ("objective", "discriminator", "guards")
    objective, discriminator, guards = (config[name] for name in old)
    has_aux = config["model"]["aux_classifier"]
    blocks = upgrade_objective(objective, discriminator, guards, has_aux=has_aux)
    return {name: value for name, value in config.items() if name not in old} | blocks


def upgrade_objective(
    objective: Fields, discriminator: Fields, guards: Fields, *, has_aux: bool
) -> Fields:
    """Turns the flat objective of format 1 into views and terms.

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
