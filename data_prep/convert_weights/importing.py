"""Converts a file of weights to a workdir.

Synopsis:

  print(import_weights(path, workdir, Choices()))
"""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from alp_jax.data.labels import load_label_set
from alp_jax.errors import UserError
from alp_jax.models.published import Layout
from alp_jax.models.segmenter import MAIN
from alp_jax.objective.settings import placement, term
from alp_jax.workdir import checkpoint, classes, config, finite
from alp_jax.workdir.settings import build_settings
from data_prep.convert_weights import (
    discriminators,
    prefixes,
    report,
    soundness,
    trees,
    weight_files,
)
from data_prep.convert_weights.discriminators import Converted
from data_prep.convert_weights.layouts import AUTO, LAYOUTS, PUBLISHED_FILES, keys_of
from data_prep.convert_weights.recognition import PublishedFile
from data_prep.convert_weights.record import Record
from data_prep.convert_weights.state_dict import StateDict

_AUX_WEIGHT = 0.0002  # AdaptSegNet's and AdvEnt's, of every head but the main one.


@dataclasses.dataclass(frozen=True)
class Choices:
    """What the file alone may not say.

    Attributes:
      layout: one of LAYOUTS, or AUTO.
      label_set: label set of the file's classes, as `config.data.label_set`; None: the one of
        Cityscapes with as many classes.
      entry: the file's entry that holds the state dict; None: the only one.
      prefix: prefix of the network's keys; None: the only one behind which there is a network.
      ignore: regular expression that matches whole keys to leave out; None: no such keys.
      discriminators: head -> file of the discriminator of its maps.
    """

    layout: str = AUTO
    label_set: str | None = None
    entry: str | None = None
    prefix: str | None = None
    ignore: str | None = None
    discriminators: Mapping[str, pathlib.Path] = dataclasses.field(default_factory=dict)


def import_weights(
    source: pathlib.Path, output: pathlib.Path, choices: Choices | None = None
) -> str:
    """Converts a file of weights to a workdir with config.json and checkpoint 0, atomically.

    Args:
      source: a .pth or .safetensors file.
      output: the workdir, which must not exist.
      choices: what the file alone may not say.
    Returns:
      a report for people, with commands that use the workdir.
    Raises:
      UserError: if the file does not fit the layout, holds numbers that no sound network has, or
        the workdir cannot be written.
    """
    choices = choices or Choices()
    state_dict = weight_files.read(source, choices.entry)
    sha256 = weight_files.sha256_of(source)
    file, left_out = _select_network(source, state_dict, choices)
    layout_name = choices.layout
    if layout_name == AUTO:
        layout_name = PUBLISHED_FILES.get(sha256[:8]) or file.recognise()
    layout = LAYOUTS[layout_name]
    run_config = file.create_config(layout)
    model = file.read_model(layout)
    num_classes = load_label_set(run_config.data.label_set).num_classes
    found_own = _read_discriminators(source, choices.discriminators, layout, num_classes)
    _add_terms(run_config, found_own)
    expected = trees.create_shapes(model, num_classes, layout)
    unneeded = file.account_for(layout_name, model, expected)

    def whole_keys(path: Any) -> list[str]:
        return [file.prefix + key for key in keys_of(layout, model, path)]

    ours = {
        key: finite.name_path(path)
        for path, _ in jax.tree_util.tree_leaves_with_path(expected)
        for key in whole_keys(path)
    }
    soundness.check(source, state_dict, ours, left_out)
    segmenter = jax.tree_util.tree_map_with_path(
        lambda path, _: trees.from_published(
            path, trees.join([state_dict.tensors[key] for key in whole_keys(path)])
        ),
        expected,
    )
    found = left_out | {file.prefix + key: reason for key, reason in unneeded.items()}
    reasons = {key: found[key] for key in state_dict.tensors if key in found}
    record = Record(
        source=source.name,
        sha256=sha256,
        layout=layout_name,
        entry=state_dict.entry,
        prefix=file.prefix,
        keys=list(state_dict.tensors),
        half=state_dict.half,
        reasons=reasons,
        unused={key: state_dict.tensors[key] for key in reasons},
    )
    _write_workdir(output, run_config, record, segmenter, found_own)
    return report.describe(output, run_config, record, segmenter, state_dict.others, found_own)


def _read_discriminators(
    source: pathlib.Path,
    paths: Mapping[str, pathlib.Path],
    layout: Layout,
    num_classes: int,
) -> dict[str, Converted]:
    """Reads the discriminators of the network's heads: head -> discriminator."""
    for head, path in paths.items():
        if head not in layout.heads:
            held = f"the heads {', '.join(layout.heads)}" if layout.heads else "no head"
            raise UserError(
                f"--discriminators has {head}:{path}, and the network in {source} has {held}: "
                "expected HEAD:FILE with a head of the network."
            )
    return {h: discriminators.read(path, num_classes=num_classes) for h, path in paths.items()}


def _add_terms(run_config: ml_collections.ConfigDict, found: Mapping[str, Converted]) -> None:
    """Gives a configuration the terms that own the discriminators."""
    with run_config.unlocked():
        for head, discriminator in found.items():
            name = "adversarial" if head == MAIN else f"adversarial_{head}"
            if name not in run_config.terms:
                run_config.terms[name] = term("alignment", head=head, weight=_AUX_WEIGHT)
                run_config.terms[name].patches = placement("whole")
            run_config.terms[name].widths = discriminator.widths
            run_config.terms[name].aligned_map = discriminator.aligned_map
    build_settings(run_config)


def _select_network(
    source: pathlib.Path, state_dict: StateDict, choices: Choices
) -> tuple[PublishedFile, dict[str, str]]:
    """Returns the tensors of the network, and the reasons why others are left out."""
    layouts = LAYOUTS.values() if choices.layout == AUTO else [LAYOUTS[choices.layout]]
    selection = prefixes.select(
        source,
        {key: array.shape for key, array in state_dict.tensors.items()},
        lambda shapes: PublishedFile(source, shapes).holds_network(layouts),
        prefix=choices.prefix,
        ignore=choices.ignore,
    )
    file = PublishedFile(source, selection.shapes, choices.label_set, selection.prefix)
    return file, selection.reasons


def _write_workdir(
    output: pathlib.Path,
    run_config: ml_collections.ConfigDict,
    record: Record,
    segmenter: trees.PyTree,
    found: Mapping[str, Converted],
) -> None:
    state: Any = {"segmenter": segmenter}
    if found:
        state["discriminator"] = {"params": {head: own.params for head, own in found.items()}}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
            # A folder below it, because only its owner may read the temporary folder.
            workdir = pathlib.Path(folder) / "workdir"
            config.save(build_settings(run_config), workdir)
            label_set_name = run_config.data.label_set
            classes.save(load_label_set(label_set_name), workdir, label_set_name)
            record.save(workdir)
            discriminators.save({head: own.origin for head, own in found.items()}, workdir)
            with checkpoint.Checkpoints(workdir) as checkpoints:
                checkpoints.save(0, state)
                checkpoints.ensure_saved(0)
            os.rename(workdir, output)
    except OSError as error:
        raise UserError(
            f"Cannot write {output} ({error.strerror}): give an --output where you may write, and "
            "where nothing is."
        ) from error
