"""Checks a run's configuration before anything is built, and keeps it with the run.

Synopsis:

  config.validate(run_config)
  config.save(run_config, workdir)       # or refuse a workdir of another run
  run_config = config.load(workdir)
"""

import json
import math
import pathlib
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

import ml_collections

from alp_jax import field_types, files
from alp_jax.data.labels import LABEL_SETS
from alp_jax.data.pipeline import RESAMPLING
from alp_jax.errors import UserError
from alp_jax.maps import MAP_KINDS
from alp_jax.models import KERNEL_INITS
from alp_jax.models.discriminator import min_input_size
from alp_jax.models.layers import ACTIVATION_DTYPES, BATCH_NORM_MODES
from alp_jax.models.resnet import BLOCK_KINDS, STEM_KINDS, STRIDE_PLACES
from alp_jax.objective import DECISION_KINDS, GAME_KINDS, PATCH_KINDS, Objective
from alp_jax.optim import SGD_PRESETS

FILE_NAME = "config.json"

_CHOICES = {
    "data.num_classes": tuple(LABEL_SETS),
    "data.image_resize": tuple(RESAMPLING),
    "model.stem": STEM_KINDS,
    "model.block": BLOCK_KINDS,
    "model.stride_in": STRIDE_PLACES,
    "model.batch_norm_mode": BATCH_NORM_MODES,
    "model.kernel_init": tuple(KERNEL_INITS),
    "model.input_order": ("rgb", "bgr"),
    "model.activation_dtype": tuple(ACTIVATION_DTYPES),
    "discriminator.activation_dtype": tuple(ACTIVATION_DTYPES),
    "objective.aligned_map": MAP_KINDS,
    "objective.patch": PATCH_KINDS,
    "objective.decision": DECISION_KINDS,
    "objective.game": GAME_KINDS,
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
# Fields that may differ from the saved run's: they change neither the model nor the data.
_OPERATIONAL = (
    "num_steps",
    "log_every_steps",
    "data.data_dir",
    "data.num_workers",
    "data.prefetch_batches",
    "data.max_bad_records",
    "evaluation.",
    "checkpoint.",
    "guards.",
    "mesh.",
)


# Fields that nothing reads where no target image is used, and where nothing is aligned. Not
# data.target_size: evaluation has images of that size, too.
_OF_THE_TARGET = ("data.target", "data.target_split", "objective.batch_norm_update_domains")
_OF_THE_GAME = (
    "discriminator.",
    "objective.adversarial_weight",
    "objective.aligned_map",
    "objective.aux_adversarial_weight",
    "objective.decision",
    "objective.game",
    "optimizer.adam_",
    "optimizer.discriminator_learning_rate",
)

# Fields of the model that say nothing of what its weights mean.
_NOT_OF_THE_WEIGHTS = (
    "model.activation_dtype",
    "model.aux_classifier",
    "model.batch_norm_mode",
    "model.batch_norm_train_affine",
    "model.kernel_init",
    "model.rematerialise",
    "model.scan_blocks",
)


def is_used(config: ml_collections.ConfigDict, name: str) -> bool:
    """Whether a field changes what a method does: no discriminator, say, makes no use of lambda.

    Args:
      config: a whole, valid configuration.
      name: of a field, such as "objective.patch_size".
    """
    objective = create_objective(config.objective)
    if name.startswith(("objective.patch_size", "objective.num_patches")):
        return objective.patch in ("random", "image_crop")
    if name in _OF_THE_TARGET:
        return objective.use_target
    if name.startswith(_OF_THE_GAME):
        return objective.aligns
    return True


def is_shared_with_start(name: str) -> bool:
    """Whether a run and the one that it starts from agree in a field: data, network, crops."""
    if name == "data.batch_size" or name in _NOT_OF_THE_WEIGHTS:
        return False
    if name == "objective.patch_size":
        return True
    return name.startswith(("data.", "model.", "evaluation.")) and name != "evaluation.every_steps"


def create_objective(config: ml_collections.ConfigDict) -> Objective:
    """Creates the static objective of `config.objective`."""
    fields = config.to_dict()
    for name in ("patch_size", "batch_norm_update_domains"):
        fields[name] = tuple(fields[name])
    return Objective(**fields)


def flatten(config: ml_collections.ConfigDict | dict[str, Any]) -> dict[str, Any]:
    """Flattens nested fields to {"data.batch_size": 1, ...}, tuples as lists as in JSON."""

    def walk(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value

    nested = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
    return dict(walk(nested, ""))


def validate(config: ml_collections.ConfigDict) -> None:
    """Checks every field for itself, then those that must agree.

    Raises:
      UserError: naming the field, its value and what is accepted.
    """
    fields = flatten(config)
    for name in (*_CHOICES, *_AT_LEAST, *_SIZES, *_POSITIVE_LISTS):
        if name not in fields:
            raise UserError(
                f"The configuration lacks config.{name}: start from configs/default.py."
            )
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


def load(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """Reads the configuration that a run was started with.

    Raises:
      UserError: if the workdir holds no run, or its file is damaged.
    """
    path = workdir / FILE_NAME
    try:
        return ml_collections.ConfigDict(json.loads(path.read_text())).lock()
    except FileNotFoundError:
        raise UserError(
            f"No run in {workdir}: expected {path}; give the --workdir of a run that was trained."
        ) from None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): expected the JSON that training wrote; restore it, "
            "or train into another --workdir."
        ) from error


def save(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Writes the resolved configuration, or checks it against the run that is there.

    Raises:
      UserError: if the workdir holds a run that differs in a field that changes the model or the
        data, naming the field; or if it cannot be written.
    """
    path = workdir / FILE_NAME
    check_workdir(config, workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_text(path, json.dumps(config.to_dict(), indent=2) + "\n")
    except OSError as error:
        raise UserError(
            f"Cannot write to the workdir {workdir} ({error.strerror}): give a --workdir that you "
            "may write to."
        ) from error


def check_workdir(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Refuses a configuration that would continue another run than the one that is there, if any.

    Raises:
      UserError: as `check_same_run`.
    """
    if (workdir / FILE_NAME).exists():
        check_same_run(config, load(workdir), workdir)


def check_same_run(
    config: ml_collections.ConfigDict, saved: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    """Refuses a configuration that would continue another run.

    Raises:
      UserError: naming the first field that differs and both values.
    """
    for name, ours, theirs in differences(config, saved):
        if not name.startswith(_OPERATIONAL):
            raise UserError(
                f"The workdir {workdir} holds another run: config.{name} is {theirs!r} there and "
                f"{ours!r} here; use another --workdir, or that run's value."
            )


def differences(
    config: ml_collections.ConfigDict, saved: ml_collections.ConfigDict | dict[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Yields (field, value, saved value) where two configurations differ; None if missing."""
    ours, theirs = flatten(config), flatten(saved)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield name, ours.get(name), theirs.get(name)


def check_same_network(
    config: ml_collections.ConfigDict,
    saved: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    *,
    parts: Collection[str],
) -> None:
    """Refuses to start from the weights of a network that is built, or fed, in another way.

    Args:
      config: of the run that starts.
      saved: of the weights.
      workdir: where they are.
      parts: of the segmenter that they hold: backbone, classifier, aux_classifier.
    Raises:
      UserError: naming the first field that differs and both values.
    """
    exempt = set(_NOT_OF_THE_WEIGHTS)
    if not any("classifier" in part for part in parts):
        exempt.add("model.classifier_dilations")
    for name, ours, theirs in differences(config, saved):
        if name.startswith("model.") and name not in exempt and ours is not None:
            raise UserError(
                f"The weights in {workdir} (config.init_from) belong to config.{name} {theirs!r}, "
                f"and this run has {ours!r}: set {as_flag(name, theirs)}, or start from other "
                "weights."
            )


def as_flag(name: str, value: Any) -> str:
    """Writes a field and its value as the flag that overrides it."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"--config.{name}={text}"
