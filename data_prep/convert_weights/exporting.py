"""Converts a workdir to a .pth or .safetensors file.

Synopsis:

  print(export_weights(workdir, path, "auto", "latest"))
"""

import pathlib

import jax
import numpy as np

from alp_jax.errors import UserError
from alp_jax.models.published import Layout
from alp_jax.models.settings import ModelSettings
from alp_jax.settings.compare import flatten
from alp_jax.settings.schema import to_config
from alp_jax.workdir import checkpoint, classes, config
from data_prep.convert_weights import discriminators, record, trees, weight_files
from data_prep.convert_weights.layouts import (
    AUTO,
    LAYOUTS,
    counter_of,
    keys_of,
    sort_as_published,
)
from data_prep.convert_weights.record import Record
from data_prep.convert_weights.state_dict import StateDict


def export_weights(
    workdir: pathlib.Path, output: pathlib.Path, layout_name: str, checkpoint_name: str
) -> str:
    """Converts a checkpoint to a .pth file, or to a .safetensors file where the name ends so.

    Weights that came from a file get the same bits as in it, unless another layout is given.

    Args:
      workdir: folder of a run, or of converted weights.
      output: the file, which must not exist.
      layout_name: one of LAYOUTS, or AUTO: the layout that the weights came in, or else AdvEnt's.
      checkpoint_name: "latest", "best" or the number of a step.
    Returns:
      a report for people.
    Raises:
      UserError: if the checkpoint does not exist, or the layout cannot hold its network.
    """
    run_config = config.load(workdir)
    model = run_config.model
    origin = record.load(workdir)
    if layout_name == AUTO:
        layout_name = origin.layout if origin else _usual_layout(model)
    layout = LAYOUTS[layout_name]
    if origin and origin.layout != layout_name:
        origin = None
    if origin is None:
        _check_holds(layout_name, model, workdir)
    label_set = classes.load(workdir, run_config.data.label_set)
    shapes = trees.create_shapes(model, label_set.num_classes, layout)
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.resolve(checkpoint_name)
        lacking = [p for p in shapes["params"] if p not in checkpoints.segmenter_parts(step)]
        if lacking:
            backbones = [name for name, other in LAYOUTS.items() if not other.heads]
            raise UserError(
                f"Checkpoint {step} of {workdir} lacks the {' and '.join(lacking)} that the layout "
                f"{layout_name} has: give a --layout of a backbone, {' or '.join(backbones)}."
            )
        params, model_state = checkpoints.restore_segmenter(
            step, shapes["params"], shapes["model_state"]
        )
    tree = jax.device_get({"params": params, "model_state": model_state})
    tensors: dict[str, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        keys = keys_of(layout, model, path)
        parts = np.split(trees.to_published(path, leaf), len(keys))
        tensors |= zip(keys, parts, strict=True)
    if origin:
        arrays, notes = _as_it_came(tensors, origin, workdir), [f"as in {origin.source}"]
        state_dict = StateDict(arrays, origin.half, origin.entry)
    else:
        arrays, notes = _as_published(tensors, layout, model)
        state_dict = StateDict(arrays)
    sha256, others = weight_files.write(output, state_dict)
    return "\n".join(
        [
            f"{output} holds checkpoint {step} of {workdir} in the layout {layout_name} "
            f"({layout.description}): {len(arrays)} tensors.",
            f"  sha256 {sha256}",
            *(f"  {note}" for note in (*notes, *others)),
        ]
    )


def export_discriminator(
    workdir: pathlib.Path, output: pathlib.Path, layout_name: str, checkpoint_name: str, *, key: str
) -> str:
    """Converts the discriminator of a checkpoint to a .pth or .safetensors file.

    Args:
      workdir, output, checkpoint_name: as for `export_weights`.
      layout_name: a layout of AdvEnt, AdaptSegNet or CLAN, whose names the layers get; AUTO: the
        names that they came with, or else AdvEnt's.
      key: name of the term that owns it, without "adversarial_"; "main" for that term itself.
    Returns:
      a report for people.
    Raises:
      UserError: if the checkpoint or the discriminator does not exist, the term owns something
        else, or the layout has no discriminator.
    """
    origin = discriminators.load(workdir).get(key)
    naming = discriminators.NAMINGS.get(layout_name)
    if layout_name == AUTO:
        naming = origin.naming if origin else discriminators.NAMINGS["advent"]
    if naming is None:
        raise UserError(
            f"--layout is {layout_name}, whose code trains no discriminator: expected one of "
            f"{', '.join(discriminators.NAMINGS)}."
        )
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.resolve(checkpoint_name)
        shapes = checkpoints.own_parameters(step)
        if key not in shapes:
            held = ", ".join(shapes) or "none"
            raise UserError(
                f"Checkpoint {step} of {workdir} has no discriminator {key!r}: it has {held}."
            )
        params = jax.device_get(checkpoints.restore_own(step, {key: shapes[key]})[key])
    if origin and origin.naming == naming:
        state_dict, how = origin.restore(params), f"as in {origin.source}"
    else:
        tensors = discriminators.to_published(params, naming)
        state_dict, how = StateDict(tensors), f"with {naming}'s names of layers"
    sha256, notes = weight_files.write(output, state_dict)
    return "\n".join(
        [
            f"{output} holds the discriminator {key} of checkpoint {step} of {workdir}: "
            f"{len(state_dict.tensors)} tensors, {how}.",
            f"  sha256 {sha256}",
            *(f"  {note}" for note in notes),
        ]
    )


def _usual_layout(model: ModelSettings) -> str:
    return "advent" if "aux" in model.heads else "advent_single"


def _check_holds(layout_name: str, model: ModelSettings, workdir: pathlib.Path) -> None:
    """Refuses a layout of another network; the message names the first field that differs."""
    different = _find_difference(LAYOUTS[layout_name], model)
    if different is None:
        return
    field, value, expected = different
    others = [name for name, layout in LAYOUTS.items() if not _find_difference(layout, model)]
    remedy = f"give --layout={' or '.join(others)}" if others else "no other layout holds it either"
    raise UserError(
        f"The network in {workdir} has config.model.{field} {value!r}: expected {expected!r}, "
        f"which is what the layout {layout_name} means; {remedy}."
    )


def _find_difference(layout: Layout, model: ModelSettings) -> tuple[str, object, object] | None:
    """Finds the first field in which a layout differs: its name, value and the layout's value."""
    if layout.heads and model.heads.keys() != layout.heads.keys():
        return "heads", sorted(model.heads), sorted(layout.heads)
    ours = flatten(to_config(model))
    for field, expected in flatten(layout.model_fields()).items():
        if ours.get(field) != expected:
            return field, ours.get(field), expected
    return None


def _as_it_came(
    tensors: dict[str, np.ndarray], origin: Record, workdir: pathlib.Path
) -> dict[str, np.ndarray]:
    """Lists all tensors of the original file, in its order."""
    tensors = {origin.prefix + key: array for key, array in tensors.items()} | origin.unused
    if tensors.keys() != set(origin.keys):
        raise UserError(
            f"{workdir / record.FILE_NAME} lists other tensors than are there: expected what the "
            "conversion wrote; convert the file of weights again."
        )
    return {key: tensors[key] for key in origin.keys}


def _as_published(
    tensors: dict[str, np.ndarray], layout: Layout, model: ModelSettings
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Lists all tensors of the layout's network, in its order, and notes for the report."""
    added = {counter: np.zeros((), np.int64) for key in tensors if (counter := counter_of(key))}
    notes = [f"{len(added)} counters of batch norm are 0"]
    for head, published in layout.heads.items():
        extras = model.heads[head].list_published_extras(published.modules)
        added |= {key: np.zeros_like(tensors[like]) for key, like in extras.items()}
    if layout.heads:
        notes += [f"0: {unused.reason}" for unused in layout.unused]
    else:
        notes.append("left out: the classifier that was trained")
        notes += [f"left out: {unused.reason}" for unused in layout.unused]
    everything = tensors | added
    prefix = layout.prefixes[0]
    keys = sort_as_published(everything, layout)
    return {prefix + key: everything[key] for key in keys}, notes
