"""Keeps the user's own classes with a run, so that it does not depend on a file elsewhere.

Synopsis:

  label_set = load_to_train(workdir, config.data.label_set)    # or refuse changed classes
  save(label_set, workdir, config.data.label_set)              # label_set.yaml
  label_set = load(workdir, config.data.label_set)             # to evaluate, predict, export

A run with a label set of the package, which has a name, keeps no copy.
"""

import pathlib

from alp_jax.data import label_files
from alp_jax.data.labels import LabelSet, list_label_sets, load_label_set
from alp_jax.errors import UserError
from alp_jax.workdir import checkpoint, files

FILE_NAME = "label_set.yaml"


def load(workdir: pathlib.Path, name_or_path: str) -> LabelSet:
    """Loads the label set of a run: its copy if it has one.

    Args:
      workdir: of the run.
      name_or_path: `config.data.label_set` of the run.
    Raises:
      UserError: if there is no such label set, or the copy is damaged or gone.
    """
    copy = workdir / FILE_NAME
    if copy.exists():
        return load_label_set(copy)
    _check_copy_is_not_missed(workdir, name_or_path)
    return load_label_set(name_or_path)


def load_to_train(
    workdir: pathlib.Path, name_or_path: str, *, has_results: bool = False
) -> LabelSet:
    """Loads the label set of a run that starts or continues.

    Args:
      workdir: of the run; holds a copy if the run was started before.
      name_or_path: `config.data.label_set`; a file that is gone since the start is not missed.
      has_results: whether the workdir holds results that are no checkpoints.
    Raises:
      UserError: if there is no such label set, its file was changed since the run was started, or
        the copy is gone.
    """
    copy = workdir / FILE_NAME
    if not copy.exists():
        _check_copy_is_not_missed(workdir, name_or_path, has_results=has_results)
        return load_label_set(name_or_path)
    kept = load_label_set(copy)
    if pathlib.Path(name_or_path).expanduser().exists() and load_label_set(name_or_path) != kept:
        raise UserError(
            f"The label set {name_or_path} was changed since the run in {workdir} was started: "
            f"expected what {copy} holds; give another --workdir, or restore the file."
        )
    return kept


def _check_copy_is_not_missed(
    workdir: pathlib.Path, name_or_path: str, *, has_results: bool = False
) -> None:
    """Refuses a run that was trained with a user's label set and has lost its copy.

    The user's file may be another one by now, and would change what the run's classes mean.
    """
    has_results = has_results or bool(checkpoint.list_steps(workdir))
    if has_results and name_or_path not in list_label_sets():
        raise UserError(
            f"The workdir {workdir} lacks {FILE_NAME}, the copy of the classes that the run was "
            f"trained with: restore it, or copy {name_or_path} there under that name if it was not "
            "changed since."
        )


def save(label_set: LabelSet, workdir: pathlib.Path, name_or_path: str) -> None:
    """Writes a copy of a user's label set, once; one of the package is not copied.

    Args:
      label_set: of the run.
      workdir: of the run; must exist.
      name_or_path: `config.data.label_set`, which names it.
    Raises:
      UserError: if it cannot be written.
    """
    copy = workdir / FILE_NAME
    if name_or_path in list_label_sets() or copy.exists():
        return
    try:
        files.write_text(copy, label_files.write(label_set.to_fields()))
    except OSError as error:
        raise UserError(
            f"Cannot write to the workdir {workdir} ({error.strerror}): give a --workdir that you "
            "may write to."
        ) from error
