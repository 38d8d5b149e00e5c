"""Saves and restores Orbax checkpoints of a run: the latest few and the best, in the background.

Synopsis:

  with Checkpoints(workdir, keep_last=3) as checkpoints:
      state = checkpoints.restore(checkpoints.latest_whole_step(), like=state)
      checkpoints.save(step, state)

Saving is atomic: a folder `checkpoints/STEP` appears once all of its files and a manifest of their
checksums are written. A checkpoint whose files differ from its manifest is never read.
"""

import dataclasses
import logging
import pathlib
import shutil
from typing import Any, Self

import jax

from alp_jax.devices import processes
from alp_jax.errors import UserError, describe
from alp_jax.objective.state import TrainState
from alp_jax.settings.schema import setting
from alp_jax.workdir import finite, manifest, reading, saving, scores

logger = logging.getLogger(__name__)

PyTree = Any

FOLDER = "checkpoints"
_DAMAGED = ".damaged"  # Suffix of a damaged checkpoint's folder.


@dataclasses.dataclass(frozen=True)
class CheckpointSettings:
    """Interval and number of checkpoints."""

    OPERATIONAL = True

    every_steps: int = setting(
        500, "Steps between checkpoints; each evaluation saves one, too.", at_least=1
    )
    keep_last: int = setting(
        3, "Number of latest checkpoints to keep, in addition to the best.", at_least=1
    )


def list_steps(workdir: pathlib.Path) -> list[int]:
    """Lists the steps that have a checkpoint in a workdir, in order."""
    return sorted(int(path.name) for path in (workdir / FOLDER).glob("*") if path.name.isdigit())


class Checkpoints:
    """Manages the checkpoints of one workdir, under `checkpoints/STEP`.

    Keeps the latest `keep_last` checkpoints and the one with the best target validation mean IoU.
    That score uses target labels: a number quoted from the best checkpoint must say so.

    Attributes:
      workdir: folder of the run.
    """

    def __init__(self, workdir: pathlib.Path, *, keep_last: int = 1, read_only: bool = False):
        self.workdir = workdir
        self._folder = workdir.absolute() / FOLDER
        self._keep_last = keep_last
        self._read_only = read_only
        if read_only and not self._folder.is_dir():
            raise UserError(
                f"No checkpoints in {workdir}: expected the folder {self._folder}; give the "
                "workdir of a run that was trained."
            )
        if not read_only and processes.is_primary():
            # Saves that were cut short by a kill.
            for path in self._folder.glob(f"*{saving.UNFINISHED}*"):
                shutil.rmtree(path)
        self._reader = reading.Reader(self._folder)
        self._saver = saving.Saver(self._folder, on_saved=self._note_saved)
        self._whole: set[int] = set()  # Steps whose files were found to match their manifest.

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._saver.close()
        self._reader.close()

    def steps(self) -> list[int]:
        """Lists the steps that have a checkpoint, in order."""
        return list_steps(self.workdir)

    def latest_whole_step(self) -> int | None:
        """Returns the last step with an undamaged checkpoint; None if there is no checkpoint.

        Later, damaged checkpoints are named in a warning and, unless read-only, renamed
        STEP.damaged, so that their steps can be saved again.

        Raises:
          UserError: if there are checkpoints, but all are damaged.
        """
        self._saver.wait()
        faults = {}
        for step in reversed(self.steps()):
            fault = self._find_fault(step)
            if fault is None:
                break
            faults[step] = fault
        else:
            if not faults:
                return None
            found = ", ".join(f"{step} ({fault})" for step, fault in faults.items())
            raise UserError(
                f"No checkpoint in {self._folder} is whole: {found}; put back a copy of one, or "
                "train into another --workdir."
            )
        for damaged, fault in faults.items():
            logger.warning(
                "Checkpoint %s is damaged (%s): using that of step %d, the one before it.",
                self._folder / str(damaged),
                fault,
                step,
            )
            if not self._read_only:
                self._set_aside(damaged)
        return step

    def best_step(self) -> int | None:
        """Returns the step with the best target validation mean IoU; None if no step was scored."""
        found = {step: scores.read_mean_iou(self.workdir, step) for step in self.steps()}
        scored = {step: score for step, score in found.items() if score is not None}
        return max(scored, key=lambda step: (scored[step], step), default=None)

    def resolve(self, which: str) -> int:
        """Finds the step for "latest", "best" or the number of a step.

        Raises:
          UserError: if there is no such checkpoint, listing the existing ones; or if the best one
            or the one with that number is damaged, since another would give other scores.
        """
        found: int | None
        match which:
            case "latest":
                found = self.latest_whole_step()
            case "best":
                found = self.best_step()
            case _ if which.isdigit():
                found = int(which) if int(which) in self.steps() else None
            case _:
                raise UserError(
                    f"--checkpoint is {which!r}: expected latest, best or the number of a step."
                )
        if found is None:
            held = ", ".join(map(str, self.steps())) or "none"
            reason = scores.explain_no_best(self.workdir) if which == "best" else ""
            remedy = "; give --checkpoint=latest, or one of these steps" if self.steps() else ""
            raise UserError(
                f"No checkpoint {which!r} in {self._folder}{reason}: it holds {held}{remedy}."
            )
        self._check_whole(found)
        return found

    def save(self, step: int, state: TrainState) -> None:
        """Saves in the background, after waiting for the previous save.

        A failed save, on a full disk say, is logged as a warning and leaves older checkpoints
        untouched; `ensure_saved` raises its error.
        """
        self._saver.save(step, state)

    def ensure_saved(self, step: int) -> None:
        """Waits for the last save, that of `step`.

        Raises:
          UserError: if the save failed.
        """
        self._saver.ensure_saved(step)

    def _note_saved(self, step: int) -> None:
        self._whole.add(step)
        try:
            self._remove_old()
        except (OSError, UserError) as error:
            logger.warning(
                "Old checkpoints in %s were not removed (%s).", self._folder, describe(error)
            )

    def _remove_old(self) -> None:
        kept = {*self.steps()[-self._keep_last :], self.best_step()}
        for step in self.steps():
            if step not in kept:
                # Renamed first: a partly removed folder would count as a damaged checkpoint.
                removed = self._folder / f"{step}{saving.UNFINISHED}"
                (self._folder / str(step)).rename(removed)
                shutil.rmtree(removed)

    def _set_aside(self, step: int) -> None:
        aside = self._folder / f"{step}{_DAMAGED}"
        if aside.exists():
            shutil.rmtree(aside)
        (self._folder / str(step)).rename(aside)

    def _find_fault(self, step: int) -> str | None:
        if step in self._whole:
            return None
        fault = manifest.find_fault(self._folder / str(step))
        if fault is None:
            self._whole.add(step)
        return fault

    def _check_whole(self, step: int) -> None:
        fault = self._find_fault(step)
        if fault is not None:
            others = ", ".join(str(other) for other in self.steps() if other != step) or "none"
            raise UserError(
                f"Checkpoint {self._folder / str(step)} is damaged ({fault}): give --checkpoint="
                f"latest or another step; the others are {others}."
            )

    def restore(self, step: int, *, like: TrainState) -> TrainState:
        """Restores a whole state, exactly as it was saved.

        Args:
          step: a saved step.
          like: a state (or its shapes) of the same configuration.
        Raises:
          UserError: if the checkpoint belongs to another network, or is damaged.
        """
        return self._read(step, like)

    def restore_segmenter(
        self, step: int, params: PyTree, model_state: PyTree
    ) -> tuple[PyTree, PyTree]:
        """Restores only the segmenter's (params, model_state).

        Args:
          step: a saved step.
          params, model_state: trees with the expected shapes.
        Raises:
          UserError: if the checkpoint belongs to another network, or is damaged.
        """
        like = {"params": params, "model_state": model_state}
        # Orbax takes an empty tree for a leaf, which differs from the statistics of other parts.
        like = {name: tree for name, tree in like.items() if jax.tree.leaves(tree)}
        restored = self._read(step, {"segmenter": like})["segmenter"]
        return restored["params"], restored.get("model_state", model_state)

    def segmenter_parts(self, step: int) -> set[str]:
        """Returns the parts of the segmenter in a checkpoint: backbone, classifier, ..."""
        paths = (path.split("/") for path in reading.list_shapes(self._metadata(step)))
        return {path[2] for path in paths if path[:2] == ["segmenter", "params"]}

    def restore_own(self, step: int, params: PyTree) -> PyTree:
        """Restores only parameters that terms own.

        Args:
          step: a saved step.
          params: key of a term -> tree with the expected shapes.
        Raises:
          UserError: if the checkpoint lacks one or has it in another shape, or is damaged.
        """
        return self._read(step, {"discriminator": {"params": params}})["discriminator"]["params"]

    def own_parameters(self, step: int) -> dict[str, PyTree]:
        """Returns the shapes of the parameters that terms own in a checkpoint, by their key."""
        leaves = jax.tree_util.tree_leaves_with_path(self._metadata(step))
        found: dict[str, PyTree] = {}
        for path, leaf in leaves:
            *levels, name = finite.name_path(path).split("/")
            if levels[:2] == ["discriminator", "params"]:
                node = found
                for level in levels[2:]:
                    node = node.setdefault(level, {})
                node[name] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        return found

    def _read(self, step: int, like: PyTree) -> Any:
        """Restores from a checkpoint the subtree with the structure of `like`."""
        self._check_whole(step)
        return self._reader.read(step, like, others=self.steps())

    def _metadata(self, step: int) -> PyTree:
        self._check_whole(step)
        return self._reader.read_metadata(step)
