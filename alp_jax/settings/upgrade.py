"""Upgrades configurations of earlier formats: pure functions of plain dicts.

Format 1 had one flat `objective` and one flat `model`; format 2 has views and terms, and a backbone
with heads.
"""

from typing import Any

Fields = dict[str, Any]

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
    return {"backbone": backbone, "heads": heads, **rest}


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
