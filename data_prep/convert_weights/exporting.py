"""From a workdir to a .pth file.

Synopsis:

  print(export_weights(workdir, path, "auto", "latest"))
"""

import pathlib

import jax
import ml_collections
import numpy as np

from alp_jax.errors import UserError
from alp_jax.settings.compare import flatten
from alp_jax.settings.schema import to_config
from alp_jax.workdir import checkpoint, classes, config
from data_prep.convert_weights import record, torch_files, trees
from data_prep.convert_weights.layouts import (
    AUTO,
    LAYOUTS,
    NUM_BRANCHES,
    Layout,
    counter_of,
    published_order,
)
from data_prep.convert_weights.record import Record


def export_weights(
    workdir: pathlib.Path, output: pathlib.Path, layout_name: str, checkpoint_name: str
) -> str:
    """Converts a checkpoint to a .pth file.

    Weights that were converted before go back as they came, to the bit, unless another layout is
    asked for.

    Args:
      workdir: of a run, or of converted weights.
      output: the file, which must not exist.
      layout_name: one of LAYOUTS, or AUTO: that which the weights came in, or else AdvEnt's.
      checkpoint_name: "latest", "best" or the number of a step.
    Returns:
      what was done, for people.
    Raises:
      UserError: if there is no such checkpoint, or the layout cannot hold its network.
    """
    run_config = config.load(workdir)
    origin = record.load(workdir)
    if layout_name == AUTO:
        layout_name = origin.layout if origin else _usual_layout(run_config.model)
    layout = LAYOUTS[layout_name]
    if origin and origin.layout != layout_name:
        origin = None
    if origin is None:
        _check_holds(layout_name, run_config.model, workdir)
    label_set = classes.load(workdir, run_config.data.label_set)
    shapes = trees.create_shapes(run_config.model, label_set.num_classes, layout)
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.resolve(checkpoint_name)
        if not checkpoints.segmenter_parts(step).issuperset(layout.heads):
            raise UserError(
                f"Checkpoint {step} of {workdir} lacks the {' and '.join(layout.heads)} that the "
                f"layout {layout_name} has: give a --layout of a backbone, torchvision or "
                "caffe_init."
            )
        params, model_state = checkpoints.restore_segmenter(
            step, shapes["params"], shapes["model_state"]
        )
    tree = jax.device_get({"params": params, "model_state": model_state})
    tensors = {
        layout.key_of(path): trees.to_published(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    if origin:
        state_dict, notes = _as_it_came(tensors, origin, workdir), [f"as in {origin.source}"]
        wrapper = origin.wrapper
    else:
        state_dict, notes = _as_published(tensors, layout)
        wrapper = None
    sha256 = torch_files.write(output, state_dict, wrapper)
    return "\n".join(
        [
            f"{output} holds checkpoint {step} of {workdir} in the layout {layout_name} "
            f"({layout.description}): {len(state_dict)} tensors.",
            f"  sha256 {sha256}",
            *(f"  {note}" for note in notes),
        ]
    )


def _usual_layout(model: ml_collections.ConfigDict) -> str:
    return "advent" if model.aux_classifier else "advent_single"


def _check_holds(layout_name: str, model: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Refuses a layout that means another network, naming the first field that differs."""
    different = _first_difference(LAYOUTS[layout_name], model)
    if different is None:
        return
    field, expected = different
    others = [name for name, layout in LAYOUTS.items() if not _first_difference(layout, model)]
    remedy = f"give --layout={' or '.join(others)}" if others else "no other layout holds it either"
    raise UserError(
        f"The network in {workdir} has config.model.{field} {getattr(model, field)!r}: expected "
        f"{expected!r}, which is what the layout {layout_name} means; {remedy}."
    )


def _first_difference(
    layout: Layout, model: ml_collections.ConfigDict
) -> tuple[str, object] | None:
    ours = flatten(to_config(model))
    for field, expected in flatten(layout.model_fields()).items():
        if ours[field] != expected:
            return field, expected
    return None


def _as_it_came(
    tensors: dict[str, np.ndarray], origin: Record, workdir: pathlib.Path
) -> dict[str, np.ndarray]:
    """Every key of the file that the weights came from, in its order."""
    tensors = tensors | origin.unused
    if tensors.keys() != set(origin.keys):
        raise UserError(
            f"{workdir / record.FILE_NAME} lists other tensors than are there: expected what the "
            "conversion wrote; convert the .pth file again."
        )
    return {origin.prefix + key: tensors[key] for key in origin.keys}


def _as_published(
    tensors: dict[str, np.ndarray], layout: Layout
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The keys that a network of the layout has, in its order, and what there is to say."""
    added = {counter: np.zeros((), np.int64) for key in tensors if (counter := counter_of(key))}
    notes = [f"{len(added)} counters of batch norm are 0"]
    for module in layout.modules():
        for branch in range(len(layout.dilations), NUM_BRANCHES):
            for leaf in ("weight", "bias"):
                like = tensors[f"{module}.conv2d_list.0.{leaf}"]
                added[f"{module}.conv2d_list.{branch}.{leaf}"] = np.zeros_like(like)
    if layout.heads:
        notes += [f"0: {unused.reason}" for unused in layout.unused]
    else:
        notes.append("left out: the classifier that was trained")
        notes += [f"left out: {unused.reason}" for unused in layout.unused]
    everything = tensors | added
    prefix = layout.prefixes[0]
    return {prefix + key: everything[key] for key in sorted(everything, key=published_order)}, notes
