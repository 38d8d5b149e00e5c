"""Saves states in the background, atomically and with checksums.

Synopsis:

  saver = Saver(folder, on_saved=remove_old)
  saver.save(500, state)     # folder/500, once it is complete
  saver.ensure_saved(500)    # or UserError
  saver.close()
"""

import collections
import concurrent.futures
import dataclasses
import logging
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import orbax.checkpoint as ocp

from alp_jax.devices import processes
from alp_jax.errors import UserError, describe
from alp_jax.objective.state import TrainState
from alp_jax.workdir import manifest

logger = logging.getLogger(__name__)

# Suffix of a folder that is being saved or removed.
UNFINISHED = ".unfinished"


def create_checkpointer() -> ocp.AsyncCheckpointer:
    """Creates Orbax's checkpointer, which reads and writes one state per folder."""
    return ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())


def _leave_out_no_teacher(state: Any) -> Any:
    """Returns a state without a teacher as earlier versions saved it, in their order of fields."""
    if not isinstance(state, TrainState) or state.teacher is not None:
        return state
    names = [field.name for field in dataclasses.fields(state) if field.name != "teacher"]
    return collections.OrderedDict((name, getattr(state, name)) for name in names)


class Saver:
    """Writes states to `folder/STEP`, one at a time.

    A failed save, on a full disk say, is logged as a warning, and its files are removed.
    """

    def __init__(self, folder: pathlib.Path, *, on_saved: Callable[[int], None]):
        """Creates the saver; its first save creates the folder.

        Args:
          folder: parent folder of all steps.
          on_saved: called in the background thread with each step that was saved.
        """
        self._folder = folder
        self._on_saved = on_saved
        self._checkpointer = create_checkpointer()
        self._committer = concurrent.futures.ThreadPoolExecutor(1, "commit_checkpoint")
        self._pending: concurrent.futures.Future[None] | None = None
        self._failure = ""

    def save(self, step: int, state: TrainState) -> None:
        """Starts a save, after waiting for the previous one; on return the state may be donated."""
        self.wait()
        self._failure = ""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._checkpointer.save(
                self._folder / f"{step}{UNFINISHED}",
                args=ocp.args.PyTreeSave(_leave_out_no_teacher(state)),
                force=True,
            )
        except Exception as error:  # Orbax and TensorStore raise many types for a full disk.
            self._report_failure(step, error)
        else:
            self._pending = self._committer.submit(self._commit, step)

    def wait(self) -> None:
        """Waits until the last save is committed and `on_saved` has returned."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def ensure_saved(self, step: int) -> None:
        """Waits for the last save, that of `step`.

        Raises:
          UserError: if the save failed.
        """
        self.wait()
        if self._failure:
            raise UserError(
                f"The checkpoint of step {step} could not be saved in {self._folder} "
                f"({self._failure}): free some space there or make it writable, then give the same "
                "command again, which continues from the checkpoint before."
            )

    def close(self) -> None:
        """Waits for the last save, and frees threads and checkpointer."""
        self.wait()
        self._committer.shutdown()
        self._checkpointer.close()

    def _commit(self, step: int) -> None:
        """Waits for Orbax, writes the manifest, and then renames the folder to STEP."""
        unfinished = self._folder / f"{step}{UNFINISHED}"
        try:
            self._checkpointer.wait_until_finished()
            if not processes.is_primary():
                return
            manifest.write(unfinished)
            unfinished.rename(self._folder / str(step))
        except Exception as error:  # As in save.
            self._report_failure(step, error)
        else:
            self._on_saved(step)

    def _report_failure(self, step: int, error: Exception) -> None:
        self._failure = describe(error)
        logger.warning(
            "The checkpoint of step %d could not be saved in %s (%s): the checkpoints before it "
            "are kept, and the run goes on; free some space there or make it writable.",
            step,
            self._folder,
            self._failure,
        )
        for path in self._folder.glob(f"{step}{UNFINISHED}*"):
            shutil.rmtree(path, ignore_errors=True)
        # A new checkpointer: Orbax keeps some errors and would raise them at the next save.
        self._checkpointer = create_checkpointer()
