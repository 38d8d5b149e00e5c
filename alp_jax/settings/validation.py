"""Checks a run's configuration before anything is built.

Synopsis:

  validation.validate(run_config)
"""

import math
from collections.abc import Collection, Iterable
from typing import Any, NoReturn, get_args

import ml_collections

from alp_jax.data.labels import LABEL_SETS
from alp_jax.data.pipeline import RESAMPLING
from alp_jax.errors import UserError
from alp_jax.models.backbones.resnet import StemKind
from alp_jax.models.discriminator import min_input_size
from alp_jax.models.layers import ACTIVATION_DTYPES, BATCH_NORM_MODES, KERNEL_INITS
from alp_jax.models.residual import BlockKind, StridePlace
from alp_jax.objective.maps import MAP_KINDS
from alp_jax.objective.optim import SGD_PRESETS
from alp_jax.settings import field_types
from alp_jax.workdir.config import flatten

_CHOICES = {
    "data.num_classes": tuple(LABEL_SETS),
    "data.image_resize": tuple(RESAMPLING),
    "model.stem": get_args(StemKind),
    "model.block": get_args(BlockKind),
    "model.stride_in": get_args(StridePlace),
    "model.batch_norm_mode": BATCH_NORM_MODES,
    "model.kernel_init": tuple(KERNEL_INITS),
    "model.input_order": ("rgb", "bgr"),
    "model.activation_dtype": tuple(ACTIVATION_DTYPES),
    "discriminator.activation_dtype": tuple(ACTIVATION_DTYPES),
    "objective.aligned_map": MAP_KINDS,
    "objective.patch": ("whole", "random", "image_crop", "none"),
    "objective.decision": ("cell", "patch"),
    "objective.game": ("non_saturating", "minimax"),
    "optimizer.sgd_preset": SGD_PRESETS,
}
_AT_LEAST = {
    "seed": 0,
    "num_steps": 1,
    "log_every_steps": 1,
    "data.flip_probability": 0,
    "data.batch_size": 1,
    "data.num_workers": 0,
    "data.prefetch_batches": 1,
    "data.max_bad_records": 0,
    "objective.num_patches": 1,
    "objective.adversarial_weight": 0,
    "objective.aux_cross_entropy_weight": 0,
    "objective.aux_adversarial_weight": 0,
    "optimizer.segmenter_learning_rate": 0,
    "optimizer.classifier_learning_rate_multiplier": 0,
    "optimizer.momentum": 0,
    "optimizer.weight_decay": 0,
    "optimizer.gradient_clip_norm": 0,
    "optimizer.discriminator_learning_rate": 0,
    "optimizer.poly_power": 0,
    "optimizer.horizon_steps": 1,
    "evaluation.batch_size": 1,
    "evaluation.every_steps": 1,
    "evaluation.num_sheet_images": 1,
    "checkpoint.every_steps": 1,
    "checkpoint.keep_last": 1,
    "guards.discriminator_patience": 0,
    "guards.discriminator_tolerance": 0,
    "mesh.data": 0,
    "mesh.space": 0,
}
_SIZES = ("data.source_size", "data.target_size", "objective.patch_size")
_POSITIVE_LISTS = (
    "model.stem_widths",
    "model.depths",
    "model.widths",
    "model.strides",
    "model.dilations",
    "model.classifier_dilations",
    "model.input_std",
    "discriminator.widths",
)


def validate(config: ml_collections.ConfigDict) -> None:
    """Checks every field for itself, then those that must agree.

    Raises:
      UserError: naming the field, its value and what is accepted.
    """
    fields = flatten(config)
    required = (*_CHOICES, *_AT_LEAST, *_SIZES, *_POSITIVE_LISTS)
    check_complete(fields, required, start="configs/default.py")
    for name, value, expected in field_types.find_wrong(fields):
        refuse(name, value, expected)
    for name, choices in _CHOICES.items():
        if fields[name] not in choices:
            refuse(name, fields[name], f"one of {', '.join(map(str, choices))}")
    for name, lowest in _AT_LEAST.items():
        if not lowest <= fields[name] < math.inf:
            refuse(name, fields[name], f"at least {lowest}, and finite")
    for name in _SIZES:
        if len(fields[name]) != 2 or min(fields[name]) < 1:
            refuse(name, fields[name], "(height, width) in pixels, both at least 1")
    for name in _POSITIVE_LISTS:
        if not fields[name] or min(fields[name]) <= 0:
            refuse(name, fields[name], "a list of numbers above 0")
    if fields["data.flip_probability"] > 1:
        refuse("data.flip_probability", fields["data.flip_probability"], "at most 1")
    for name in ("optimizer.momentum", "optimizer.adam_b1", "optimizer.adam_b2"):
        if not 0 <= fields[name] < 1:
            refuse(name, fields[name], "at least 0 and below 1")
    domains = fields["objective.batch_norm_update_domains"]
    if not set(domains) <= {"source", "target"}:
        refuse(
            "objective.batch_norm_update_domains",
            domains,
            'a selection of source and target, such as ("target",)',
        )
    _check_model(fields)
    _check_patch(fields)


def check_complete(fields: Collection[str], required: Iterable[str], *, start: str) -> None:
    """Refuses a configuration that lacks a field, and names the file to start from."""
    for name in required:
        if name not in fields:
            raise UserError(f"The configuration lacks config.{name}: start from {start}.")


def refuse(name: str, value: Any, expected: str) -> NoReturn:
    """Raises the UserError about one field."""
    raise UserError(f"config.{name} is {value!r}: expected {expected}.")


def _check_model(fields: dict[str, Any]) -> None:
    stages = len(fields["model.depths"])
    for name in ("model.widths", "model.strides", "model.dilations"):
        if len(fields[name]) != stages:
            refuse(name, fields[name], f"{stages} numbers, one for each stage of model.depths")
    stem_convs = {"imagenet": 1, "two_convs": 2}[fields["model.stem"]]
    if len(fields["model.stem_widths"]) != stem_convs:
        expected = f"{stem_convs} for the stem {fields['model.stem']!r}"
        refuse("model.stem_widths", fields["model.stem_widths"], f"a list of {expected}")
    for name in ("model.input_mean", "model.input_std"):
        if len(fields[name]) != 3:
            refuse(name, fields[name], "3 numbers, one for each channel")
    if fields["model.aux_classifier"] and stages < 2:
        refuse("model.aux_classifier", True, "False, as the network has no last stage but one")
    if fields["num_steps"] > fields["optimizer.horizon_steps"]:
        refuse(
            "optimizer.horizon_steps",
            fields["optimizer.horizon_steps"],
            f"at least num_steps ({fields['num_steps']}), or the learning rate is 0 before the end",
        )


def _check_patch(fields: dict[str, Any]) -> None:
    """A patch must fit in both domains' maps, and leave the discriminator something to decide."""
    patch_kind = fields["objective.patch"]
    if fields["objective.use_target"] and patch_kind == "none":
        if fields["model.batch_norm_mode"] == "frozen":
            expected = 'running or batch with objective.patch "none", or the target changes nothing'
            refuse("model.batch_norm_mode", "frozen", expected)
        return
    if not fields["objective.use_target"] and patch_kind != "image_crop":
        return
    smallest = min_input_size(tuple(fields["discriminator.widths"]))
    maps = {name: fields[f"data.{name}_size"] for name in ("source", "target")}
    if patch_kind == "whole":
        for name, size in maps.items():
            if min(size) < smallest:
                refuse(f"data.{name}_size", size, _enough_for_discriminator(fields, smallest))
        return
    patch = fields["objective.patch_size"]
    for name, size in maps.items():
        if patch[0] > size[0] or patch[1] > size[1]:
            expected = f"a patch inside the {name} map of {size[0]}x{size[1]} (data.{name}_size)"
            refuse("objective.patch_size", patch, expected)
    if fields["objective.use_target"] and min(patch) < smallest:
        refuse("objective.patch_size", patch, _enough_for_discriminator(fields, smallest))


def _enough_for_discriminator(fields: dict[str, Any], smallest: int) -> str:
    layers = len(fields["discriminator.widths"]) + 1
    return (
        f"at least {smallest}x{smallest}, below which the discriminator's {layers} stride-2 layers "
        "leave nothing to decide; use a larger patch or fewer discriminator.widths"
    )
