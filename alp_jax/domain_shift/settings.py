"""Checks the experiment's configuration, and keeps it with its results.

Synopsis:

  settings.validate(config)
  settings.save(config, output)       # or refuse a folder of another experiment
"""

import json
import pathlib
from typing import Any

import ml_collections

from alp_jax.errors import UserError
from alp_jax.settings import upgrade
from alp_jax.settings.validation import check_complete, check_label_set, refuse
from alp_jax.workdir import files
from alp_jax.workdir.config import differences, flatten

FILE_NAME = "config.json"

_AT_LEAST = {
    "seed": 0,
    "num_runs": 1,
    "num_steps": 1,
    "eval_every_steps": 1,
    "num_validation": 1,
    "eval_batch_size": 1,
    "learning_rate": 0,
    "momentum": 0,
    "weight_decay": 0,
    "data.batch_size": 1,
    "data.num_workers": 0,
    "data.prefetch_batches": 1,
}
_ALSO_REQUIRED = (
    "patch_sizes",
    "widths",
    *(f"data.{name}" for name in ("data_dir", "label_set", "size")),
    *(f"data.{role}" for role in ("source", "target", "target_validation")),
    *(f"data.{role}_split" for role in ("source", "target", "target_validation")),
)
# Fields that may differ from the saved ones: they change no curve that is finished.
_OPERATIONAL = (
    "patch_sizes",
    "num_runs",
    "eval_batch_size",
    "data.data_dir",
    "data.num_workers",
    "data.prefetch_batches",
)


def validate(config: ml_collections.ConfigDict) -> None:
    """Checks every field for itself, then those that must agree.

    Raises:
      UserError: naming the field, its value and what is accepted.
    """
    fields = flatten(config)
    check_complete(fields, (*_AT_LEAST, *_ALSO_REQUIRED), start="configs/domain_shift.py")
    for name, lowest in _AT_LEAST.items():
        if not fields[name] >= lowest:
            refuse(name, fields[name], f"at least {lowest}")
    if fields["momentum"] >= 1:
        refuse("momentum", fields["momentum"], "below 1")
    check_label_set(fields)
    size, patch_sizes = fields["data.size"], fields["patch_sizes"]
    if len(size) != 2 or min(size) < 1:
        refuse("data.size", size, "(height, width) in pixels, both at least 1")
    if not fields["widths"] or min(fields["widths"]) < 1:
        refuse("widths", fields["widths"], "a list of numbers of channels, all at least 1")
    if not patch_sizes or len(set(patch_sizes)) < len(patch_sizes) or min(patch_sizes) < 1:
        refuse("patch_sizes", patch_sizes, "different sides of square patches in pixels")
    if max(patch_sizes) > min(size):
        refuse(
            "patch_sizes",
            patch_sizes,
            f"patches inside the maps of {size[0]}x{size[1]} (data.size); the whole map is always "
            "part of the experiment",
        )
    _check_splits(fields)


def _check_splits(fields: dict[str, Any]) -> None:
    """No map may be trained on and validated, or belong to both domains."""

    def records(role: str) -> tuple[str, str]:
        return fields[f"data.{role}"], fields[f"data.{role}_split"]

    target, validation, source = map(records, ("target", "target_validation", "source"))
    if source == target:
        raise UserError(
            f"config.data.source and config.data.target are both {target[0]}:{target[1]}: expected "
            "two domains; to compare one with itself give two halves, such as train[:50%] and "
            "train[50%:]."
        )
    for role, (dataset, split) in (("target", target), ("source", source)):
        if validation[0] == dataset and validation[1].split("[")[0] == split.split("[")[0]:
            raise UserError(
                f"config.data.target_validation is {dataset}:{validation[1]}, which may hold maps "
                f"of config.data.{role}, {dataset}:{split}: expected another split, or "
                "--config.data.target_validation= to hold out maps of the target's own split."
            )


def save(config: ml_collections.ConfigDict, output: pathlib.Path) -> None:
    """Writes the configuration, or checks it against that of the curves that are there.

    Raises:
      UserError: if the folder holds another experiment, naming the first field that differs; or
        if it cannot be read or written.
    """
    path = output / FILE_NAME
    try:
        if path.exists():
            _check_same(config, upgrade.upgrade_data(json.loads(path.read_text())), output)
        output.mkdir(parents=True, exist_ok=True)
        files.write_text(path, json.dumps(config.to_dict(), indent=2) + "\n")
    except UserError:
        raise
    except OSError as error:
        raise UserError(
            f"Cannot write to the folder {output} ({error.strerror}): give an --output that you "
            "may write to."
        ) from error
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): expected the JSON that this command wrote; give "
            "another --output."
        ) from error


def _check_same(
    config: ml_collections.ConfigDict, saved: dict[str, Any], output: pathlib.Path
) -> None:
    for name, ours, theirs in differences(config, saved):
        if name not in _OPERATIONAL:
            raise UserError(
                f"The folder {output} holds another experiment: config.{name} is {theirs!r} there "
                f"and {ours!r} here; give another --output, or that value."
            )
