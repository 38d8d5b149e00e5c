"""Reads what a run leaves as named arrays, without the code of the project."""

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.export
import numpy as np
import orbax.checkpoint as ocp
from PIL import Image

Arrays = dict[str, np.ndarray]

# Fields of JSON files that tell of time, place and environment.
_NOT_COMPARED = {"images_per_second", "input_wait_fraction", "versions", "input"}


def read_checkpoints(folder: pathlib.Path) -> Arrays:
    """Reads every leaf of every checkpoint: {"8/segmenter/params/...": array}."""
    arrays: Arrays = {}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        for path in sorted((folder / "workdir" / "checkpoints").iterdir()):
            tree = checkpointer.metadata(path).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            args = ocp.args.PyTreeRestore(restore_args=as_numpy)
            state = checkpointer.restore(path, args=args)
            leaves, _ = jax.tree_util.tree_flatten_with_path(state)
            for keys, leaf in leaves:
                name = jax.tree_util.keystr(keys, simple=True, separator="/")
                arrays[f"{path.name}/{name}"] = np.asarray(leaf)
    return arrays


def read_metrics(folder: pathlib.Path) -> Arrays:
    """Reads the lines of metrics.jsonl: {"LINE/loss/segmenter": number}."""
    lines = (folder / "workdir" / "metrics.jsonl").read_text().splitlines()
    return _to_arrays(enumerate(map(json.loads, lines)))


def read_evaluations(folder: pathlib.Path) -> Arrays:
    """Reads scores, confusion matrices and pictures of the evaluations in the workdir."""
    return read_files(folder / "workdir" / "evaluation")


def read_predictions(folder: pathlib.Path) -> Arrays:
    """Reads the predictions that evaluation wrote."""
    return read_files(folder / "predictions")


def read_predicted(folder: pathlib.Path) -> Arrays:
    """Reads what prediction wrote of a folder of images."""
    return read_files(folder / "predicted")


def read_exported(folder: pathlib.Path) -> Arrays:
    """Reads the description of an exported program, and what the program gives for images."""
    exported = folder / "exported"
    description = json.loads((exported / "segmenter.json").read_text())
    program = jax.export.deserialize(bytearray((exported / "segmenter.jax").read_bytes()))
    shape = (2, *description["image_size"], 3)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    label_ids, entropy = program.call(images)
    outputs = {"label_ids": np.asarray(label_ids), "entropy": np.asarray(entropy)}
    return outputs | _to_arrays([("segmenter.json", description)])


# What is compared of a run, and how it is read from the folder of one side.
KINDS: dict[str, Callable[[pathlib.Path], Arrays]] = {
    "checkpoints": read_checkpoints,
    "metrics": read_metrics,
    "evaluation": read_evaluations,
    "predictions": read_predictions,
    "predict": read_predicted,
    "export": read_exported,
}


def read_files(folder: pathlib.Path) -> Arrays:
    """Reads all files below a folder: pixels, arrays, and the values of JSON files by path.

    Raises:
      ValueError: for a file of another kind.
    """
    arrays: Arrays = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            arrays |= {f"{name}{more}": array for more, array in _read_file(path)}
    return arrays


def _read_file(path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    match path.suffix:
        case ".png":
            yield "", np.asarray(Image.open(path))
        case ".npy":
            yield "", np.load(path)
        case ".npz":
            with np.load(path) as held:
                yield from ((f"/{name}", held[name]) for name in held)
        case ".json":
            values = _to_arrays([("", json.loads(path.read_text()))])
            yield from values.items()
        case _:
            raise ValueError(f"{path} is of no kind that is compared.")


def flatten(tree: Any) -> Iterator[tuple[str, Any]]:
    """Yields (path, leaf) of nested dictionaries and lists: ("iou_per_class/road", 0.5)."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, child in children:
        if isinstance(child, dict | list):
            yield from ((f"{key}/{path}", leaf) for path, leaf in flatten(child))
        else:
            yield str(key), child


def _to_arrays(values: Any) -> Arrays:
    """Names the values of (name, JSON value) pairs, leaving out what is never compared."""
    flat = flatten(dict(values))
    return {
        name: np.asarray("null" if leaf is None else leaf)
        for name, leaf in flat
        if _NOT_COMPARED.isdisjoint(name.split("/"))
    }
