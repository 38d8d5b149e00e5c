"""Reads the arrays of a checkpoint whose files are whole, and refuses what a run cannot use.

Synopsis:

  reader = Reader(workdir / "checkpoints")
  state = reader.read(step, like=state)
  list_shapes(reader.read_metadata(step))     # {"step": (), ...}
"""

import pathlib
from collections.abc import Collection
from typing import Any

import jax
import orbax.checkpoint as ocp

from alp_jax.errors import UserError, describe, shorten
from alp_jax.workdir import finite, saving

PyTree = Any


class Reader:
    """Reads the checkpoints of a folder, each under the number of its step."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._checkpointer = saving.create_checkpointer()

    def close(self) -> None:
        """Ends Orbax's threads."""
        self._checkpointer.close()

    def read(self, step: int, like: PyTree, *, others: Collection[int] = ()) -> Any:
        """Reads the subtree with the structure of `like`.

        Args:
          step: a saved step, whose files are whole.
          like: arrays, or their shapes.
          others: steps with a checkpoint, to name one that may be taken in place of this one.
        Raises:
          UserError: if the checkpoint is of another network, cannot be read, or holds numbers that
            are not finite.
        """
        self._check_shapes(step, like)
        shapes = jax.tree.map(_to_placed_shape, like)
        args = ocp.args.PyTreeRestore(
            shapes,
            restore_args=ocp.checkpoint_utils.construct_restore_args(shapes),
            partial_restore=True,
        )
        try:
            restored = self._checkpointer.restore(self._folder / str(step), args=args)
        except Exception as error:  # Orbax and TensorStore raise many types.
            raise self._unreadable(step, error) from error
        self._check_finite(step, restored, others)
        return restored

    def _check_finite(self, step: int, restored: PyTree, others: Collection[int]) -> None:
        """Refuses numbers that would give scores and pictures without meaning.

        Training saves no such numbers; converted weights and other programs may.
        """
        faults = finite.find_faults(restored)
        if faults:
            earlier = sorted(other for other in others if other < step)
            remedy = "start again from other weights"
            if earlier:
                remedy = (
                    f"take another checkpoint, such as {earlier[-1]}; training continues from "
                    "that one when the folder of this one is moved elsewhere"
                )
            raise UserError(
                f"Checkpoint {self._folder / str(step)} was saved with numbers that no sound "
                f"network has ({shorten(faults, 3)}): expected finite numbers; {remedy}."
            )

    def _check_shapes(self, step: int, like: PyTree) -> None:
        """Refuses a checkpoint that lacks an array of `like`, or has it in another shape."""
        saved = list_shapes(self.read_metadata(step))
        for path, shape in list_shapes(like).items():
            if saved.get(path) != shape:
                found = f"has shape {saved[path]}" if path in saved else "is missing"
                raise UserError(
                    f"Checkpoint {self._folder / str(step)} is of another network: {path} {found} "
                    f"there and should have shape {shape}; use the configuration it was trained "
                    "with, or another checkpoint."
                )

    def read_metadata(self, step: int) -> PyTree:
        """Reads the tree of a checkpoint, with shapes and types in place of its arrays.

        Raises:
          UserError: if it cannot be read.
        """
        try:
            return self._checkpointer.metadata(self._folder / str(step)).item_metadata.tree
        except Exception as error:  # As in read.
            raise self._unreadable(step, error) from error

    def _unreadable(self, step: int, error: Exception) -> UserError:
        return UserError(
            f"Checkpoint {self._folder / str(step)} cannot be read ({describe(error)}), though its "
            "files are as they were saved: use the versions that saved it (python -m pip list)."
        )


def _to_placed_shape(leaf: Any) -> jax.ShapeDtypeStruct:
    """Returns a leaf's shape, type and sharding; without one, the first device."""
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def list_shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """Returns {path: shape} of every array in a tree: {"step": (), ...}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {finite.name_path(path): tuple(leaf.shape) for path, leaf in leaves}
