"""Describes converted weights to people, with commands that use them.

Synopsis:

  print(describe(output, run_config, record, segmenter, others, discriminators))
"""

import collections
import pathlib
import shlex
from collections.abc import Mapping

import jax
import ml_collections

from alp_jax.data.labels import load_label_set
from alp_jax.models.published import IMAGENET_PIXELS
from alp_jax.models.segmenter import MAIN
from alp_jax.settings.compare import as_flag, flatten, list_fields
from alp_jax.settings.schema import to_config
from alp_jax.workdir.settings import build_settings
from configs import default
from data_prep.convert_weights import experiments, trees
from data_prep.convert_weights.discriminators import Converted
from data_prep.convert_weights.entries import show
from data_prep.convert_weights.experiments import Experiment
from data_prep.convert_weights.layouts import LAYOUTS, load_backbone
from data_prep.convert_weights.record import Record

_METHOD = "alp_gi"  # The paper's.
_MAIN = "python -m alp_jax.main"


def describe(
    output: pathlib.Path,
    run_config: ml_collections.ConfigDict,
    record: Record,
    segmenter: trees.PyTree,
    others: tuple[str, ...],
    discriminators: Mapping[str, Converted],
) -> str:
    """Says what was used of a file, what was not, and how to go on.

    Args:
      output: the workdir.
      run_config: its configuration.
      record: origin of the weights.
      segmenter: the weights.
      others: entries of the file beside the state dict.
      discriminators: head -> discriminator that was converted with the network.
    """
    lines = [
        *_describe_content(run_config, record, segmenter),
        *_describe_choices(record),
        *([f"  left behind: {', '.join(others)}, beside the state dict"] if others else []),
        *(_describe_discriminator(head, own) for head, own in discriminators.items()),
        *_describe_starts(output, run_config),
    ]
    if discriminators:
        lines.append(
            "With --config.init_terms=same, such a run starts from the discriminators of its terms "
            "as well."
        )
    if LAYOUTS[record.layout].heads:
        lines += _describe_evaluation(output, run_config)
    return "\n".join(lines)


def _describe_discriminator(head: str, found: Converted) -> str:
    return (
        f"  discriminator of the head {head}: {found.origin.source}, {len(found.widths) + 1} "
        f"layers, trained on the maps {found.aligned_map}"
    )


def _describe_content(
    run_config: ml_collections.ConfigDict, record: Record, segmenter: trees.PyTree
) -> list[str]:
    def count(tree: trees.PyTree) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    layout = LAYOUTS[record.layout]
    label_set = load_label_set(run_config.data.label_set)
    held = f"{label_set.num_classes} classes" if layout.heads else "no classifier"
    licence = [f"  licence of its published files: {layout.licence}"] if layout.licence else []
    return [
        f"{record.source} is of the layout {record.layout} ({layout.description}): {held}.",
        f"  sha256 {record.sha256}",
        *licence,
        f"  used: {len(record.keys) - len(record.reasons)} tensors, "
        f"{count(segmenter['params']):,} parameters and "
        f"{count(segmenter['model_state']):,} statistics",
    ]


def _describe_choices(record: Record) -> list[str]:
    """Says what was taken off the tensors' names and types, and which tensors were not used."""
    lines = []
    if record.entry:
        lines.append(f"  taken from the entry {show(record.entry)}")
    if record.prefix:
        lines.append(f"  taken off their names: the prefix {record.prefix}")
    used = [key for key in record.half if key not in record.reasons]
    for dtype, number in collections.Counter(record.half[key] for key in used).items():
        lines.append(f"  turned into float32, exactly: {number} tensors of {dtype}")
    for reason, number in collections.Counter(record.reasons.values()).items():
        lines.append(f"  ignored: {number} tensors, {reason}")
    return lines


def _describe_evaluation(output: pathlib.Path, run_config: ml_collections.ConfigDict) -> list[str]:
    """Says how the weights are evaluated, and which dataset that reads."""
    command = f"{_MAIN} --mode=evaluate --workdir={shlex.quote(str(output))}"
    if experiments.find(run_config.data.label_set).is_of_users:
        return [
            "Evaluate them, with the NAME and SPLIT of a prepared dataset of these classes:",
            f"  {command} --config.evaluation.dataset=NAME --config.evaluation.split=SPLIT",
        ]
    height, width = run_config.data.target_size
    return [
        f"Evaluate them on {run_config.evaluation.dataset}, which python -m data_prep.cityscapes "
        f"--raw_dir=RAW --data_dir={run_config.data.data_dir} --size={height},{width} prepares:",
        f"  {command}",
    ]


def _describe_starts(output: pathlib.Path, run_config: ml_collections.ConfigDict) -> list[str]:
    """Says how a run starts from the weights: the paper's method, and one with all their heads."""
    heads = set(run_config.model.heads)
    own = experiments.find(run_config.data.label_set)
    if own.get_config(_METHOD).model.backbone.kind != run_config.model.backbone.kind:
        return _describe_configuration(output, run_config, own)
    lines = [
        "Start a run of the paper's method from them"
        + (", in a copy of that file with your own datasets:" if own.is_of_users else ":"),
        f"  {_command(own, _METHOD, output, run_config)}",
    ]
    extra = " and ".join(sorted(heads - {MAIN}))
    for experiment in (own, experiments.PAPER) if extra else ():
        for method in default.list_methods():
            if set(experiment.get_config(method).model.heads) == heads:
                return [
                    *lines,
                    f"It does not use their classifier {extra}, which the method {method} does:",
                    f"  {_command(experiment, method, output, run_config)}",
                ]
    return lines


def _describe_configuration(
    output: pathlib.Path, run_config: ml_collections.ConfigDict, experiment: Experiment
) -> list[str]:
    """Writes a configuration with the network of the weights, as no flag can change its kind."""
    model, name = run_config.model, experiment.name
    fields = model.backbone.to_dict()
    kind = fields.pop("kind")
    usual = to_config(load_backbone(kind)()).to_dict()
    changed = [f"{key}={value!r}" for key, value in fields.items() if value != usual[key]]
    pixels = [f"config.model.{key} = {model[key]!r}" for key in IMAGENET_PIXELS]
    network = ", ".join([repr(kind), *changed])
    return [
        "Start a run from them with a configuration of your own that replaces the network, in a "
        "Python file (docs/own_parts.md); choose a decoder there, too:",
        "  from alp_jax.models.settings import backbone",
        f"  from configs import {name}",
        "",
        f"  def get_config(variant={_METHOD!r}):",
        f"      config = {name}.get_config(variant)",
        "      with config.unlocked():",
        f"          config.model.backbone = backbone({network})",
        *(f"          {line}" for line in pixels),
        f"          config.init_from = {str(output)!r}",
        "      return config",
    ]


def _command(
    experiment: Experiment,
    method: str,
    output: pathlib.Path,
    run_config: ml_collections.ConfigDict,
) -> str:
    """Writes the command that trains a method of an experiment from the weights."""
    usual = experiment.get_config(method)
    return " ".join(
        [
            _MAIN,
            f"--config=configs/{experiment.name}.py:{method}",
            f"--workdir=runs/{experiment.name.partition('_')[0]}_{method}",
            shlex.quote(f"--config.init_from={output}"),
            *map(shlex.quote, _list_overrides(run_config, usual)),
        ]
    )


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
