"""Converts a .pth file to a workdir.

Synopsis:

  print(import_weights(path, workdir, "auto"))
"""

import collections
import os
import pathlib
import tempfile
from collections.abc import Iterable
from typing import Any

import jax
import ml_collections
import numpy as np

from alp_jax.data.labels import load_label_set
from alp_jax.errors import UserError
from alp_jax.models.segmenter import MAIN
from alp_jax.settings.compare import as_flag, flatten, list_fields
from alp_jax.workdir import checkpoint, classes, config
from alp_jax.workdir.settings import build_settings
from configs import default
from data_prep.convert_weights import torch_files, trees
from data_prep.convert_weights.layouts import AUTO, LAYOUTS, PUBLISHED_FILES, key_of
from data_prep.convert_weights.recognition import PublishedFile
from data_prep.convert_weights.record import Record


def import_weights(
    source: pathlib.Path, output: pathlib.Path, layout_name: str, label_set_name: str | None = None
) -> str:
    """Converts a .pth file to a workdir with config.json and checkpoint 0, atomically.

    Args:
      source: the .pth file.
      output: the workdir, which must not exist.
      layout_name: one of LAYOUTS, or AUTO.
      label_set_name: label set of the file's classes, as `config.data.label_set`; None: the one of
        Cityscapes with as many classes.
    Returns:
      a report for people, with commands that use the workdir.
    Raises:
      UserError: if the file does not fit the layout, or the workdir cannot be written.
    """
    content = torch_files.read(source)
    prefix = _common_prefix(content.tensors)
    tensors = {key.removeprefix(prefix): value for key, value in content.tensors.items()}
    shapes = {key: value.shape for key, value in tensors.items()}
    file = PublishedFile(source, shapes, label_set_name)
    if layout_name == AUTO:
        layout_name = PUBLISHED_FILES.get(content.sha256[:8]) or file.recognise(prefix)
    layout = LAYOUTS[layout_name]
    run_config = file.create_config(layout)
    model = file.read_model(layout)
    label_set = load_label_set(run_config.data.label_set)
    expected = trees.create_shapes(model, label_set.num_classes, layout)
    reasons = file.account_for(layout_name, model, expected)

    def convert(path: Any, _: jax.ShapeDtypeStruct) -> np.ndarray:
        return trees.from_published(path, tensors[key_of(layout, model, path)])

    segmenter = jax.tree_util.tree_map_with_path(convert, expected)
    unused = {key: tensors[key] for key in reasons}
    record = Record(
        source=source.name,
        sha256=content.sha256,
        layout=layout_name,
        wrapper=content.wrapper,
        prefix=prefix,
        keys=list(tensors),
        reasons=reasons,
        unused=unused,
    )
    _write_workdir(output, run_config, record, segmenter)
    return _describe(output, run_config, record, segmenter, content.dropped)


def _common_prefix(keys: Iterable[str]) -> str:
    """Finds the prefix that DataParallel and the Caffe conversion put before every key."""
    prefix = ""
    for part in ("module.", "Scale."):
        if all(key.startswith(prefix + part) for key in keys):
            prefix += part
    return prefix


def _write_workdir(
    output: pathlib.Path,
    run_config: ml_collections.ConfigDict,
    record: Record,
    segmenter: trees.PyTree,
) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
            # A folder below it, because only its owner may read the temporary folder.
            workdir = pathlib.Path(folder) / "workdir"
            config.save(build_settings(run_config), workdir)
            label_set_name = run_config.data.label_set
            classes.save(load_label_set(label_set_name), workdir, label_set_name)
            record.save(workdir)
            state: Any = {"segmenter": segmenter}
            with checkpoint.Checkpoints(workdir) as checkpoints:
                checkpoints.save(0, state)
                checkpoints.ensure_saved(0)
            os.rename(workdir, output)
    except OSError as error:
        raise UserError(
            f"Cannot write {output} ({error.strerror}): give an --output where you may write, and "
            "where nothing is."
        ) from error


def _describe(
    output: pathlib.Path,
    run_config: ml_collections.ConfigDict,
    record: Record,
    segmenter: trees.PyTree,
    dropped: tuple[str, ...],
) -> str:
    def count(tree: trees.PyTree) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    layout = LAYOUTS[record.layout]
    label_set = load_label_set(run_config.data.label_set)
    held = f"{label_set.num_classes} classes" if layout.heads else "no classifier"
    lines = [
        f"{record.source} is of the layout {record.layout} ({layout.description}): {held}.",
        f"  sha256 {record.sha256}",
        f"  used: {len(record.keys) - len(record.reasons)} tensors, "
        f"{count(segmenter['params']):,} parameters and "
        f"{count(segmenter['model_state']):,} statistics",
    ]
    for reason, number in collections.Counter(record.reasons.values()).items():
        lines.append(f"  ignored: {number} tensors, {reason}")
    if dropped:
        lines.append(f"  left behind: {', '.join(dropped)}, beside the state dict")
    lines += _describe_starts(output, run_config)
    if layout.heads:
        lines += [
            "Evaluate them:",
            f"  python -m alp_jax.main --mode=evaluate --workdir={output}",
        ]
    return "\n".join(lines)


def _describe_starts(output: pathlib.Path, run_config: ml_collections.ConfigDict) -> list[str]:
    """Says how a run starts from the weights: with the main head alone, and with all heads."""
    weights = f"--config.init_from={output}"
    flags = _list_overrides(run_config, default.get_config())
    lines = ["Start a run from them:", "  " + " ".join([weights, *flags])]
    heads = set(run_config.model.heads)
    others = " and ".join(sorted(heads - {MAIN}))
    for method in default.list_methods() if others else ():
        usual = default.get_config(method)
        if set(usual.model.heads) == heads:
            variant = f"--config=configs/gta5_to_cityscapes.py:{method}"
            flags = _list_overrides(run_config, usual)
            lines += [
                f"or, with a method that has the head {others} as well:",
                "  " + " ".join([variant, weights, *flags]),
            ]
            break
    return lines


def _list_overrides(
    run_config: ml_collections.ConfigDict, usual: ml_collections.ConfigDict
) -> list[str]:
    """Lists the flags that give another configuration the same classes and the same network.

    A flag cannot add a head: heads that the other configuration lacks are left out.
    """
    of_weights = list_fields(build_settings(run_config), of_weights=True)
    ours, theirs = flatten(run_config), flatten(usual)
    return [
        as_flag(name, ours[name])
        for name in of_weights
        if name.startswith("model.") or name == "data.label_set"
        if name in theirs and ours[name] != theirs[name]
    ]
