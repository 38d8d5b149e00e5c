"""Keeps a run's configuration with the run, and compares it with that of another.

Synopsis:

  save(settings, workdir)       # or refuse a workdir of another run
  settings = load(workdir)
"""

import json
import pathlib
from collections.abc import Collection

from alp_jax.errors import UserError
from alp_jax.settings.compare import as_flag, differences, list_fields
from alp_jax.settings.schema import to_config
from alp_jax.settings.upgrade import FORMAT, upgrade
from alp_jax.workdir import files
from alp_jax.workdir.settings import RunSettings, build_settings

FILE_NAME = "config.json"


def load(workdir: pathlib.Path) -> RunSettings:
    """Reads the settings that a run was started with; earlier formats are upgraded in memory.

    Raises:
      UserError: if the workdir holds no run, its file is damaged or of a newer version, or a file of
        the user's own that it names is not there.
    """
    path = workdir / FILE_NAME
    try:
        fields = upgrade(json.loads(path.read_text()))
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
        return build_settings(fields)
    except UserError as error:
        raise UserError(f"In {path}: {error}") from error


def save(settings: RunSettings, workdir: pathlib.Path) -> None:
    """Writes the settings, or checks them against the run that is there.

    Raises:
      UserError: if the workdir holds a run that differs in a field that changes the model or the
        data, naming the field; or if it cannot be written.
    """
    path = workdir / FILE_NAME
    check_workdir(settings, workdir)
    fields = {"format": FORMAT, **to_config(settings).to_dict()}
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_text(path, json.dumps(fields, indent=2) + "\n")
    except OSError as error:
        raise UserError(
            f"Cannot write to the workdir {workdir} ({error.strerror}): give a --workdir that you "
            "may write to."
        ) from error


def check_workdir(settings: RunSettings, workdir: pathlib.Path) -> None:
    """Refuses settings that would continue another run than the one that is there, if any.

    Raises:
      UserError: as `check_same_run`.
    """
    if (workdir / FILE_NAME).exists():
        check_same_run(settings, load(workdir), workdir)


def check_same_run(settings: RunSettings, saved: RunSettings, workdir: pathlib.Path) -> None:
    """Refuses settings that would continue another run.

    Raises:
      UserError: naming the first field that differs and both values.
    """
    may_differ = _list_both(settings, saved, operational=True)
    for name, ours, theirs in differences(to_config(settings), to_config(saved)):
        if name not in may_differ:
            raise UserError(
                f"The workdir {workdir} holds another run: config.{name} is {theirs!r} there and "
                f"{ours!r} here; use another --workdir, or that run's value."
            )


def check_same_network(
    settings: RunSettings, saved: RunSettings, workdir: pathlib.Path, *, parts: Collection[str]
) -> None:
    """Refuses to start from the weights of a network that is built, or fed, in another way.

    Args:
      settings: of the run that starts.
      saved: of the weights.
      workdir: where they are.
      parts: of the segmenter that they hold: backbone, classifier, aux_classifier.
    Raises:
      UserError: naming the first field that differs and both values.
    """
    exempt = _list_both(settings, saved, of_weights=False)
    if not any("classifier" in part for part in parts):
        exempt.add("model.classifier_dilations")
    for name, ours, theirs in differences(to_config(settings), to_config(saved)):
        if name.startswith("model.") and name not in exempt and ours is not None:
            raise UserError(
                f"The weights in {workdir} (config.init_from) belong to config.{name} {theirs!r}, "
                f"and this run has {ours!r}: set {as_flag(name, theirs)}, or start from other "
                "weights."
            )


def _list_both(*both: RunSettings, **marks: bool) -> set[str]:
    return {name for settings in both for name in list_fields(settings, **marks)}
