"""Saves and loads the configuration of a run, and compares it with another run's.

Synopsis:

  save(settings, workdir)       # UserError if the workdir holds another run
  settings = load(workdir)
"""

import itertools
import json
import pathlib
import re
from collections.abc import Collection, Sequence
from typing import Any

import ml_collections

from alp_jax.command import configuration
from alp_jax.data.labels import load_label_set
from alp_jax.errors import UserError
from alp_jax.models.segmenter import name_decoder
from alp_jax.self_training.settings import RoundsSettings
from alp_jax.settings.compare import as_flag, differences, flatten, list_fields
from alp_jax.settings.schema import to_config
from alp_jax.settings.upgrade import FORMAT, upgrade
from alp_jax.workdir import checkpoint, classes, files, manifest, outputs, own_files
from alp_jax.workdir.settings import RunSettings, build_settings

FILE_NAME = "config.json"
# Fields of every configuration that a version without marks (outputs.MARK) wrote.
_EARLIER_FIELDS = {"seed", "num_steps", "init_from", "data", "model", "evaluation", "checkpoint"}


def is_unmarked_run(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds a run of a version that left no mark."""
    if any((folder / checkpoint.FOLDER).glob(f"*/{manifest.FILE_NAME}")):
        return True
    try:
        fields = json.loads((folder / FILE_NAME).read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.keys() >= _EARLIER_FIELDS


RUN = outputs.Kind("a run", flag="workdir", is_earlier=is_unmarked_run, may_hold_links=True)
# The block that earlier versions lack.
_NO_ROUNDS = {"rounds": to_config(RoundsSettings()).to_dict()}
# Fields that only training reads.
_OF_TRAINING = re.compile(
    r"(seed|num_steps|init_from|init_terms|start_variant|log_every_steps|tensorboard)$|"
    r"(views|terms|updates|teacher|rounds|optimizer|checkpoint)\.|"
    r"data\.(source|source_split|source_size|target|target_split|flip_probability|batch_size"
    r"|num_workers|max_bad_records)$|"
    r"evaluation\.(reported_split|every_steps)$"
)


def upgrade_run(fields: Any) -> dict[str, Any]:
    """Converts the configuration of a run, as read from JSON, to the current format.

    Raises:
      ValueError, KeyError, TypeError: as `alp_jax.settings.upgrade.upgrade`.
    """
    return _NO_ROUNDS | upgrade(fields)


def load(workdir: pathlib.Path) -> RunSettings:
    """Reads the settings of a run; earlier formats are upgraded in memory.

    Raises:
      UserError: if the workdir holds no run, its file is damaged or of a newer version, or a file
        of the user that it names is missing.
    """
    path = workdir / FILE_NAME
    try:
        fields = upgrade_run(json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(
            f"No run in {workdir}: expected {path}; give the --workdir of a run that was trained."
        ) from None
    except KeyError as error:
        raise UserError(
            f"{path} lacks {error}: expected the JSON that training wrote; restore it, or train "
            "into another --workdir."
        ) from error
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): expected the JSON that training wrote; restore it, "
            "or train into another --workdir."
        ) from error
    try:
        return build_settings(own_files.take_copies(fields, workdir))
    except UserError as error:
        raise UserError(f"In {path}: {error}") from error


def save(settings: RunSettings, workdir: pathlib.Path) -> None:
    """Writes the settings, and copies of the user's own code that they name, into a workdir.

    They are first checked against the run that the workdir may hold.

    Raises:
      UserError: if the workdir holds a run that differs in a field that changes the model or the
        data, naming the field; or if the workdir cannot be written to.
    """
    path = workdir / FILE_NAME
    check_workdir(settings, workdir)
    fields = {"format": FORMAT, **to_config(settings).to_dict()}
    try:
        outputs.mark(workdir, RUN)  # Checked before the workdir was locked.
        own_files.save(fields, workdir)
        files.write_json(path, fields, indent=2)
    except OSError as error:
        raise outputs.cannot_write(workdir, RUN, error) from error


def replace(settings: RunSettings, saved: RunSettings, workdir: pathlib.Path) -> None:
    """Replaces the configuration of a run that was moved, which is the same but for its start.

    Args:
      settings: the settings to write.
      saved: the settings that the workdir must hold.
      workdir: folder of the run.
    Raises:
      UserError: if the workdir holds another run, or cannot be written to.
    """
    check_workdir(saved, workdir)
    try:
        files.write_json(
            workdir / FILE_NAME, {"format": FORMAT, **to_config(settings).to_dict()}, indent=2
        )
    except OSError as error:
        raise outputs.cannot_write(workdir, RUN, error) from error


def check_workdir(settings: RunSettings, workdir: pathlib.Path) -> None:
    """Refuses settings that differ from those of the run that the workdir holds, if any.

    Raises:
      UserError: as `check_same_run`, or if a file of the user's own code was changed.
    """
    if (workdir / FILE_NAME).exists():
        has_checkpoint = bool(checkpoint.list_steps(workdir))
        fields = to_config(settings).to_dict()
        own_files.check_unchanged(fields, workdir, has_checkpoint=has_checkpoint)
        check_same_run(settings, load(workdir), workdir)


def check_same_run(settings: RunSettings, saved: RunSettings, workdir: pathlib.Path) -> None:
    """Refuses settings that differ from a saved run in a field that is not operational.

    An empty field that the run fills from its data agrees with any value.

    Raises:
      UserError: naming the first field that differs and both values.
    """
    ours = flatten(to_config(settings))
    unfilled = {name for name in list_fields(settings, derived=True) if not ours[name]}
    operational = _list_both(settings, saved, operational=True)
    _check_same(settings, saved, workdir, may_differ=operational | unfilled)


def check_same_evaluation(settings: RunSettings, saved: RunSettings, workdir: pathlib.Path) -> None:
    """Refuses settings that differ from a saved run in a field on which its scores depend.

    Raises:
      UserError: as `check_same_run`.
    """
    both = _list_both(settings, saved)
    of_training = {name for name in both if _OF_TRAINING.match(name)}
    of_training |= _list_both(settings, saved, of_weights=False) - {"model.activation_dtype"}
    operational = _list_both(settings, saved, operational=True)
    _check_same(settings, saved, workdir, may_differ=operational | of_training)


def override_evaluation(workdir: pathlib.Path, flags: Sequence[str]) -> ml_collections.ConfigDict:
    """Reads the configuration of a run, with the fields of an evaluation that flags override.

    Args:
      workdir: folder of the run.
      flags: "--config.FIELD=VALUE", as the command has them.
    Raises:
      UserError: if a field or value is wrong, or evaluation does not read the field.
    """
    for flag in flags:
        field = flag.removeprefix("--config.")
        if _OF_TRAINING.match(field.partition("=")[0]):
            raise UserError(
                f"{flag} changes nothing in an evaluation: expected fields of config.data, "
                "config.evaluation or config.mesh that it reads, such as "
                "--config.data.data_dir=datasets."
            )
    return configuration.override(to_config(load(workdir)), flags)


def _check_same(
    settings: RunSettings, saved: RunSettings, workdir: pathlib.Path, *, may_differ: Collection[str]
) -> None:
    for name, ours, theirs in differences(to_config(settings), to_config(saved)):
        if name not in may_differ:
            raise UserError(
                f"The workdir {workdir} holds another run: config.{name} is {theirs!r} there and "
                f"{ours!r} here; use another --workdir, or that run's value."
            )


def check_same_network(
    settings: RunSettings, saved: RunSettings, workdir: pathlib.Path, *, parts: Collection[str]
) -> None:
    """Refuses initial weights of a network with another architecture or input.

    Args:
      settings: settings of the run that starts.
      saved: settings of the run that made the weights.
      workdir: folder of the weights.
      parts: parts of the segmenter in the weights: backbone, classifier, aux_classifier.
    Raises:
      UserError: naming the first field that differs and both values.
    """
    exempt = _list_both(settings, saved, of_weights=False)
    if any("classifier" in part for part in parts):
        _check_same_classes(settings, saved, workdir)
    for name, ours, theirs in differences(to_config(settings), to_config(saved)):
        if _is_of_parts(name, parts) and name not in exempt and ours is not None:
            # No flag changes a kind, as the other fields of the block are of the old one.
            remedy = f"set {as_flag(name, theirs)}"
            if name.endswith(".kind"):
                remedy = "take a configuration with that one"
            if name.startswith("model.heads."):
                remedy += ", or --config.init_heads=new to begin the classifiers anew"
            raise UserError(
                f"The weights in {workdir} (config.init_from) belong to config.{name} {theirs!r}, "
                f"and this run has {ours!r}: {remedy}, or start from other weights."
            )


def _check_same_classes(settings: RunSettings, saved: RunSettings, workdir: pathlib.Path) -> None:
    """Refuses a classifier that tells other classes apart, or numbers them in another order."""
    ours = load_label_set(settings.data.label_set)
    theirs = classes.load(workdir, saved.data.label_set)
    pairs = itertools.zip_longest(theirs.names, ours.names, fillvalue="none")
    for number, (name, our_name) in enumerate(pairs, start=1):
        if name != our_name:
            raise UserError(
                f"The weights in {workdir} (config.init_from) tell other classes apart: class "
                f"number {number} is {name!r} there and {our_name!r} in config.data.label_set; "
                "give --config.init_heads=new to take the backbone alone and begin the classifier "
                "anew, or start from weights of the same classes in the same order."
            )


def _is_of_parts(name: str, parts: Collection[str]) -> bool:
    """Returns whether a field of the network says how the parts of the weights are built or fed."""
    block, _, rest = name.partition(".")
    if block != "model":
        return False
    if rest.startswith("heads."):
        return name_decoder(rest.split(".")[1]) in parts
    return True


def _list_both(*both: RunSettings, **marks: bool) -> set[str]:
    return {name for settings in both for name in list_fields(settings, **marks)}
