"""Upgrades configurations of earlier formats: pure functions of plain dicts.

Format 1 had one flat `objective`; format 2 has views and terms.
"""

from typing import Any

Fields = dict[str, Any]


def upgrade_objective(objective: Fields, discriminator: Fields, *, has_aux: bool) -> Fields:
    """Turns the flat objective of format 1 into views and terms.

    Args:
      objective: `config.objective` of format 1.
      discriminator: `config.discriminator` of format 1.
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
            terms[f"adversarial{suffix}"] = _alignment(head, objective, discriminator)
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


def _alignment(head: str, objective: Fields, discriminator: Fields) -> Fields:
    weight = "adversarial_weight" if head == "main" else "aux_adversarial_weight"
    return {
        "kind": "alignment",
        "source_view": "source",
        "target_view": "target",
        "head": head,
        "weight": objective[weight],
        "patch": "random" if objective["patch"] == "random" else "whole",
        **{
            name: objective[name]
            for name in ("aligned_map", "patch_size", "num_patches", "decision", "game")
        },
        "widths": discriminator["widths"],
        "activation_dtype": discriminator["activation_dtype"],
    }


def upgrade_label_set(num_classes: int) -> str:
    """Names the label set that format 1 named by its number of classes.

    Raises:
      ValueError: if it had no such label set.
    """
    if num_classes not in (19, 16, 13):
        raise ValueError(f"num_classes is {num_classes!r}: expected 19, 16 or 13")
    return f"cityscapes_{num_classes}"


def upgrade_data(fields: Fields) -> Fields:
    """Replaces `data.num_classes` of format 1 by `data.label_set`; other fields stay."""
    data = fields.get("data")
    if not isinstance(data, dict) or "num_classes" not in data:
        return fields
    named = {
        "label_set" if name == "num_classes" else name: (
            upgrade_label_set(value) if name == "num_classes" else value
        )
        for name, value in data.items()
    }
    return {**fields, "data": named}
