"""Writes and reads the replay file, which holds a step's inputs so that it can run again alone.

Synopsis:

  terms = {"loss/cross_entropy": nan}
  write(path, Replay(state, batch, step=57, terms=terms, examples=[...]))
  replay = read(path, like=state)
  state, scalars = train_fn(replay.state, replay.batch)
  print_outcome(replay, state, scalars)
"""

import dataclasses
import json
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from alp_jax.data.samples import Batch, Sample
from alp_jax.errors import UserError, describe
from alp_jax.objective.state import TrainState
from alp_jax.run import guards
from alp_jax.workdir import files, finite

FILE_NAME = "replay.npz"
_STATE, _BATCH, _ABOUT = "state", "batch/", "about"


@dataclasses.dataclass(frozen=True)
class Replay:
    """Inputs of one train step, and the outcome of its first run.

    Attributes:
      state: state before the step.
      batch: batch of the step.
      step: number of the update, from 1.
      terms: name -> value of the non-finite scalars of the first run.
      examples: descriptions of the batch's examples, for people.
    """

    state: TrainState
    batch: Batch
    step: int
    terms: dict[str, float]
    examples: list[str]


def write(path: pathlib.Path, replay: Replay) -> None:
    """Writes the replay file atomically.

    Raises:
      UserError: if the file cannot be written.
    """
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(replay.state))
    arrays = {_STATE + jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    for domain, sample in replay.batch.items():
        held = {name: array for name, array in sample._asdict().items() if array is not None}
        arrays |= {f"{_BATCH}{domain}/{name}": array for name, array in held.items()}
    terms = {name: str(value) for name, value in replay.terms.items()}
    about = {"step": replay.step, "terms": terms, "examples": replay.examples}
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays, **{_ABOUT: files.to_json(about)})
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(
            f"Cannot write {path} ({describe(error)}): free some space there, and give the same "
            "command again, which reaches the same step."
        ) from error


def read(path: pathlib.Path, *, like: TrainState) -> Replay:
    """Reads a replay file.

    Args:
      path: the file.
      like: a state (or its shapes) of the same configuration.
    Raises:
      UserError: if the file is missing, damaged, or belongs to another network.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(str(arrays.pop(_ABOUT)))
        terms = {name: float(value) for name, value in about["terms"].items()}
        step, examples = int(about["step"]), [str(example) for example in about["examples"]]
    except FileNotFoundError:
        raise UserError(
            f"No replay file {path}: training leaves one where a loss or gradient is not finite; "
            "give the --workdir of such a run."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is damaged ({describe(error)}): train again, which leaves another."
        ) from error
    fields: dict[str, dict[str, np.ndarray]] = {}
    for full, array in arrays.items():
        if full.startswith(_BATCH):
            domain, _, name = full.removeprefix(_BATCH).partition("/")
            fields.setdefault(domain, {})[name] = array
    try:
        batch = {domain: Sample(**held) for domain, held in fields.items()}
    except TypeError as error:
        raise UserError(
            f"{path} was written by another version ({describe(error)}): train again, which "
            "leaves another."
        ) from error

    def take(leaf_path: Any, leaf: Any) -> np.ndarray:
        array = arrays.get(_STATE + jax.tree_util.keystr(leaf_path))
        if array is None or array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise UserError(
                f"{path} is of another network: {jax.tree_util.keystr(leaf_path)} is missing there "
                f"or has another shape than {leaf.shape}; train again, which leaves another."
            )
        return array

    state = jax.tree_util.tree_map_with_path(take, like)
    return Replay(state, batch, step, terms, examples)


def print_outcome(replay: Replay, state: TrainState, scalars: Mapping[str, float]) -> None:
    """Prints the scalars of a step that ran again, and its non-finite arrays and scalars."""
    console = Console()
    table = Table("term", "now", "then", title=f"Step {replay.step}")
    for name, value in scalars.items():
        table.add_row(name, f"{value:.6g}", _value(replay.terms, name))
    console.print(table)
    print("Batch: " + "; ".join(replay.examples))
    for title, lines in (
        ("before the step", finite.find_faults(replay.state)),
        ("after the step", finite.find_faults(state)),
    ):
        print(f"Not finite {title}: " + ("\n  ".join(["", *lines]) if lines else "nothing"))
    terms = guards.find_non_finite(scalars)
    print(f"Not finite in the step: {', '.join(terms) or 'nothing, this time'}")


def _value(terms: Mapping[str, float], name: str) -> str:
    return f"{terms[name]:.6g}" if name in terms else "finite"
