"""A run's configuration as it is kept with the run, and compared with that of another.

Synopsis:

  config.save(run_config, workdir)       # or refuse a workdir of another run
  run_config = config.load(workdir)
"""

import json
import pathlib
from collections.abc import Collection, Iterator
from typing import Any

import ml_collections

from alp_jax.data.labels import load_label_set
from alp_jax.errors import UserError
from alp_jax.settings import upgrade
from alp_jax.workdir import classes, files

FILE_NAME = "config.json"

# Fields that may differ from the saved run's: they change neither the model nor the data.
_OPERATIONAL = (
    "num_steps",
    "log_every_steps",
    "tensorboard",
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
    objective = config.objective
    if name.startswith(("objective.patch_size", "objective.num_patches")):
        return objective.patch in ("random", "image_crop")
    if name in _OF_THE_TARGET:
        return bool(objective.use_target)
    if name.startswith(_OF_THE_GAME):
        return bool(objective.use_target and objective.patch != "none")
    return True


def is_shared_with_start(name: str) -> bool:
    """Whether a run and the one that it starts from agree in a field: data, network, crops."""
    if name == "data.batch_size" or name in _NOT_OF_THE_WEIGHTS:
        return False
    if name == "objective.patch_size":
        return True
    return name.startswith(("data.", "model.", "evaluation.")) and name != "evaluation.every_steps"


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


def load(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """Reads the configuration that a run was started with.

    Raises:
      UserError: if the workdir holds no run, or its file is damaged.
    """
    path = workdir / FILE_NAME
    try:
        fields = upgrade.upgrade_data(json.loads(path.read_text()))
        return ml_collections.ConfigDict(fields).lock()
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
    if any("classifier" in part for part in parts):
        _check_same_classes(config, saved, workdir)
    else:
        exempt.add("model.classifier_dilations")
    for name, ours, theirs in differences(config, saved):
        if name.startswith("model.") and name not in exempt and ours is not None:
            raise UserError(
                f"The weights in {workdir} (config.init_from) belong to config.{name} {theirs!r}, "
                f"and this run has {ours!r}: set {as_flag(name, theirs)}, or start from other "
                "weights."
            )


def _check_same_classes(
    config: ml_collections.ConfigDict, saved: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    """Refuses a classifier that tells other classes apart, or numbers them in another order."""
    ours = load_label_set(config.data.label_set)
    theirs = classes.load(workdir, saved.data.label_set)
    if ours.names != theirs.names:
        raise UserError(
            f"The weights in {workdir} (config.init_from) tell the {theirs.num_classes} classes of "
            f"{theirs.name} apart, and this run the {ours.num_classes} of {ours.name}: start from "
            "weights of the same classes in the same order, or from those of a backbone alone."
        )


def as_flag(name: str, value: Any) -> str:
    """Writes a field and its value as the flag that overrides it."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"--config.{name}={text}"
