"""Orbax checkpoints of a run: the latest few and the best, saved in the background.

Synopsis:

  with Checkpoints(workdir, keep_last=3) as checkpoints:
      state = checkpoints.restore(checkpoints.resolve("latest"), like=state)
      checkpoints.save(step, state, mean_iou=0.4)
"""

import pathlib
import shutil
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from alp_jax.errors import UserError
from alp_jax.state import TrainState

PyTree = Any

FOLDER = "checkpoints"
_SCORE = "mean_iou"


def _score(metrics: dict[str, float]) -> float:
    return metrics[_SCORE]


def has_checkpoints(workdir: pathlib.Path) -> bool:
    """Whether a run has saved a checkpoint whole; one that is being written has a longer name."""
    return any(path.name.isdigit() for path in (workdir / FOLDER).glob("*"))


class Checkpoints:
    """The checkpoints of one workdir, under `checkpoints/STEP`.

    Only the latest `keep_last` and the one with the best target validation mean IoU are kept. That
    score uses target labels: a number quoted from the best checkpoint must say so.
    """

    def __init__(self, workdir: pathlib.Path, *, keep_last: int = 1, read_only: bool = False):
        self._folder = workdir.absolute() / FOLDER
        if read_only and not self._folder.is_dir():
            raise UserError(
                f"No checkpoints in {workdir}: expected the folder {self._folder}; give the "
                "workdir of a run that was trained."
            )
        if not read_only:
            # Saves that a kill cut short. Orbax would remove them in a thread that close() does
            # not wait for, and that complains when the process ends first.
            for path in self._folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):
                shutil.rmtree(path)
        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(keep_last),
                preservation_policy.BestN(
                    get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        self._manager = ocp.CheckpointManager(
            self._folder,
            item_handlers=ocp.PyTreeCheckpointHandler(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy,
                best_fn=_score,
                create=not read_only,
                read_only=read_only,
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest_step(self) -> int | None:
        """The last step that was saved whole, or None."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step with the best target validation mean IoU; None where none was scored."""
        return self._manager.best_step()

    def resolve(self, which: str) -> int:
        """Finds the step that "latest", "best" or a number names.

        Raises:
          UserError: if there is no such checkpoint, listing those there are.
        """
        steps = sorted(self._manager.all_steps())
        found: int | None
        match which:
            case "latest":
                found = self.latest_step()
            case "best":
                found = self.best_step()
            case _ if which.isdigit():
                found = int(which) if int(which) in steps else None
            case _:
                raise UserError(
                    f"--checkpoint is {which!r}: expected latest, best or the number of a step."
                )
        if found is None:
            held = ", ".join(map(str, steps)) or "none"
            raise UserError(f"No checkpoint {which!r} in {self._folder}: it holds {held}.")
        return found

    def save(self, step: int, state: TrainState, *, mean_iou: float | None = None) -> None:
        """Saves in the background, after waiting for the save before; the score makes it a best."""
        metrics = None if mean_iou is None else {_SCORE: mean_iou}
        self._manager.save(step, args=ocp.args.PyTreeSave(state), metrics=metrics, force=True)

    def restore(self, step: int, *, like: TrainState) -> TrainState:
        """Restores a whole state, exactly as it was saved.

        Args:
          step: a step that was saved.
          like: a state (or its shapes) of the same configuration.
        Raises:
          UserError: if the checkpoint is of another network, or damaged.
        """
        return self._read(step, like)

    def restore_segmenter(
        self, step: int, params: PyTree, model_state: PyTree
    ) -> tuple[PyTree, PyTree]:
        """Restores a part of a state: the segmenter's (params, model_state).

        Args:
          step: a step that was saved.
          params, model_state: trees with the expected shapes.
        Raises:
          UserError: if the checkpoint is of another network, or damaged.
        """
        like = {"segmenter": {"params": params, "model_state": model_state}}
        restored = self._read(step, like)["segmenter"]
        return restored["params"], restored["model_state"]

    def segmenter_parts(self, step: int) -> set[str]:
        """Lists the parts of the segmenter that a checkpoint holds: backbone, classifier, ..."""
        paths = (path.split("/") for path in _shapes(self._metadata(step)))
        return {path[2] for path in paths if path[:2] == ["segmenter", "params"]}

    def _read(self, step: int, like: PyTree) -> Any:
        """Restores the part of a checkpoint that has the structure of `like`."""
        self._check_shapes(step, like)
        shapes = jax.tree.map(_to_placed_shape, like)
        args = ocp.args.PyTreeRestore(
            shapes,
            restore_args=ocp.checkpoint_utils.construct_restore_args(shapes),
            partial_restore=True,
        )
        try:
            return self._manager.restore(step, args=args)
        except Exception as error:  # Orbax and TensorStore raise many types for damaged files.
            raise UserError(
                f"Checkpoint {self._folder / str(step)} is damaged ({type(error).__name__}): "
                "delete that folder to continue from the checkpoint before it."
            ) from error

    def _check_shapes(self, step: int, like: PyTree) -> None:
        """Refuses a checkpoint whose tree or shapes are not those expected, naming the first."""
        saved = _shapes(self._metadata(step))
        for path, shape in _shapes(like).items():
            if saved.get(path) != shape:
                found = f"has shape {saved[path]}" if path in saved else "is missing"
                raise UserError(
                    f"Checkpoint {self._folder / str(step)} is of another network: {path} {found} "
                    f"there and should have shape {shape}; use the configuration it was trained "
                    "with, or another checkpoint."
                )

    def _metadata(self, step: int) -> PyTree:
        cause: Exception | None = None
        metadata = None
        try:
            metadata = self._manager.item_metadata(step)
        except Exception as error:  # As in _read.
            cause = error
        if metadata is None:
            raise UserError(
                f"Checkpoint {self._folder / str(step)} is damaged (no readable description): "
                "delete that folder to continue from the checkpoint before it."
            ) from cause
        return metadata


def _to_placed_shape(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape, type and place of a leaf; a leaf without a place goes to the first device."""
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """Maps the path of every array in a tree to its shape: {"step": (), ...}."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    shapes = {}
    for path, leaf in leaves:
        keys = [str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path]
        shapes["/".join(keys)] = tuple(leaf.shape)
    return shapes
