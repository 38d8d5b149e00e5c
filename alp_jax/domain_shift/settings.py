"""Declares the settings of the experiment, and saves them with its results.

Synopsis:

  settings = build_settings(config)
  save(settings, output)       # or refuse a folder of another experiment
"""

import dataclasses
import json
import pathlib
from typing import Any

import ml_collections

from alp_jax.data.settings import check_label_set
from alp_jax.errors import UserError
from alp_jax.settings.compare import differences, list_fields
from alp_jax.settings.schema import Size, build, refuse, setting, to_config
from alp_jax.settings.upgrade import upgrade_data
from alp_jax.workdir import files, outputs

FILE_NAME = "config.json"


@dataclasses.dataclass(frozen=True)
class ShiftDataSettings:
    """Settings of the label maps to compare."""

    data_dir: str = setting("datasets", "Folder of the prepared datasets.", operational=True)
    label_set: str = setting(
        "cityscapes_19",
        "The classes: a name in alp_jax/data/label_sets, or the path of a YAML file of your own.",
    )
    source: str = setting(
        "gta5/all_720x1280", "Source, with labels; its validation maps are held out at random."
    )
    source_split: str = setting("train", 'A split, or a TFDS slice of one: "train[:50%]".')
    target: str = setting("cityscapes/labelled_512x1024", "Target, with labels.")
    target_split: str = setting("train", "As source_split.")
    target_validation: str = setting(
        "cityscapes/labelled_512x1024",
        "Validation maps of the target; empty: they are held out of the target, too.",
    )
    target_validation_split: str = setting("validation", "As source_split.")
    size: Size = setting((512, 1024), "(height, width) of maps, and of patches after they are cut.")
    batch_size: int = setting(8, "Maps of each domain in a step.", at_least=1)
    num_workers: int = setting(
        0, "Processes that prefetch batches; 0: threads do.", at_least=0, operational=True
    )
    prefetch_batches: int = setting(4, "Batches to prefetch.", at_least=1, operational=True)

    def records(self, role: str) -> tuple[str, str]:
        """Returns (dataset, split) of "source", "target" or "target_validation"."""
        return getattr(self, role), getattr(self, f"{role}_split")

    def fields(self, role: str) -> tuple[str, str]:
        """Returns the names of the fields of `records`."""
        return f"config.data.{role}", f"config.data.{role}_split"

    def check(self, name: str) -> None:
        """Refuses unknown label sets, equal domains, and validation maps that may be trained on."""
        check_label_set(f"{name}.label_set", self.label_set)
        target, validation = self.records("target"), self.records("target_validation")
        source = self.records("source")
        if source == target:
            raise UserError(
                f"{name}.source and {name}.target are both {target[0]}:{target[1]}: expected two "
                "domains; to compare one with itself give two halves, such as train[:50%] and "
                "train[50%:]."
            )
        for role, (dataset, split) in (("target", target), ("source", source)):
            if validation[0] == dataset and validation[1].split("[")[0] == split.split("[")[0]:
                raise UserError(
                    f"{name}.target_validation is {dataset}:{validation[1]}, which may hold maps "
                    f"of {name}.{role}, {dataset}:{split}: expected another split, or "
                    f"--{name}.target_validation= to hold out maps of the target's own split."
                )


@dataclasses.dataclass(frozen=True)
class ShiftSettings:
    """Everything that defines the experiment.

    From the paper (Cicek et al., ACCV 2020, section 4.1): ResNet-18 from scratch, maps of 512x1024,
    SGD with these rates, validation every 100 steps on 500 maps of each domain, three runs.
    """

    seed: int = setting(
        0, "Seed of held-out maps, data order, places of patches and initialisation.", at_least=0
    )
    num_runs: int = setting(3, "Trainings for each patch size.", at_least=1, operational=True)
    patch_sizes: tuple[int, ...] = setting(
        (64, 128, 256, 384),
        "Sides in pixels of data.size, beside whole maps.",
        at_least=1,
        non_empty=True,
        operational=True,
    )
    num_steps: int = setting(2_000, "Updates in each training.", at_least=1)
    eval_every_steps: int = setting(100, "Steps between validations.", at_least=1)
    num_validation: int = setting(500, "Validation maps of each domain.", at_least=1)
    eval_batch_size: int = setting(
        50, "Validation maps in one batch.", at_least=1, operational=True
    )
    learning_rate: float = setting(1e-3, "Fixed learning rate of SGD.", at_least=0)
    momentum: float = setting(0.9, "Momentum of SGD.", at_least=0, below=1)
    weight_decay: float = setting(1e-4, "Added to the gradient, as in PyTorch.", at_least=0)
    widths: tuple[int, ...] = setting(
        (64, 128, 256, 512), "Channels of each stage: ResNet-18.", at_least=1, non_empty=True
    )
    data: ShiftDataSettings = dataclasses.field(default_factory=ShiftDataSettings)

    def check(self, name: str) -> None:
        """Refuses patch sizes that do not fit, or are given twice."""
        height, width = self.data.size
        if len(set(self.patch_sizes)) < len(self.patch_sizes):
            refuse(f"{name}.patch_sizes", self.patch_sizes, "different sides of square patches")
        if max(self.patch_sizes) > min(height, width):
            refuse(
                f"{name}.patch_sizes",
                self.patch_sizes,
                f"patches inside the maps of {height}x{width} (data.size); the whole map is always "
                "part of the experiment",
            )


def build_settings(config: ml_collections.ConfigDict) -> ShiftSettings:
    """Checks a configuration and builds the settings.

    Raises:
      UserError: if a value is wrong; the message names the field, the value and what is accepted.
    """
    return build(ShiftSettings, config, start="configs/domain_shift.py")


def _is_unmarked(folder: pathlib.Path) -> bool:
    """Returns whether a folder holds an experiment of a version that left no mark."""
    try:
        fields = json.loads((folder / FILE_NAME).read_text())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.keys() >= {"patch_sizes", "num_runs", "data"}


_OUTPUTS = outputs.Kind("an experiment", is_earlier=_is_unmarked)


def save(settings: ShiftSettings, output: pathlib.Path) -> None:
    """Writes the configuration, after checking it against an existing one in the folder.

    Raises:
      UserError: if the folder holds another experiment, naming the first field that differs; or
        if it cannot be read or written.
    """
    path = output / FILE_NAME
    try:
        outputs.claim(output, _OUTPUTS)
        if path.exists():
            _check_same(settings, upgrade_data(json.loads(path.read_text())), output)
        files.write_json(path, to_config(settings).to_dict(), indent=2)
    except UserError:
        raise
    except OSError as error:
        raise outputs.cannot_write(output, _OUTPUTS, error) from error
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): expected the JSON that this command wrote; give "
            "another --output."
        ) from error


def _check_same(settings: ShiftSettings, saved: dict[str, Any], output: pathlib.Path) -> None:
    may_differ = list_fields(settings, operational=True)
    for name, ours, theirs in differences(to_config(settings), saved):
        if name not in may_differ:
            raise UserError(
                f"The folder {output} holds another experiment: config.{name} is {theirs!r} there "
                f"and {ours!r} here; give another --output, or that value."
            )
