"""Creates the runs of a study: the configuration and folder of each, and the runs they start from.

Synopsis:

  planner = Planner(workdir, "configs/toy_cities.py")
  run = planner.create("alp_gi", "alp_gi", ["--config.num_steps=300"], seed=0)
  run.workdir, run.config, planner.starts
"""

import dataclasses
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import ml_collections

from alp_jax.command import configuration
from alp_jax.errors import UserError
from alp_jax.settings.compare import flatten, list_fields
from alp_jax.study.scores import STARTS, describe_value
from alp_jax.workdir.settings import RunSettings, build_settings


@dataclasses.dataclass(frozen=True)
class Run:
    """One training, or an ensemble of trained runs.

    Attributes:
      method: name of the variant; of a user's own file, without folder and ending.
      value: value of the swept field, as in JSON; None if the method does not use the field.
      seed: seed of the run.
      root: folder of all runs, or of all starts.
      folder: folder of the run, relative to the root.
      config: the whole configuration; of an ensemble, its first member's.
      members: runs whose predictions an ensemble averages, with their weights, whose sum is 1;
        empty for a training.
      may_diverge: whether a run that diverges is finished; otherwise that is an error.
    """

    method: str
    value: Any
    seed: int
    root: pathlib.Path
    folder: str
    config: ml_collections.ConfigDict
    members: tuple[tuple["Run", float], ...] = ()
    may_diverge: bool = False

    @property
    def workdir(self) -> pathlib.Path:
        """Folder of the run."""
        return self.root / self.folder

    @property
    def needed(self) -> set[pathlib.Path]:
        """Folders of the runs that this one starts from, or averages."""
        members = {member.workdir for member, _ in self.members}
        return members | {pathlib.Path(self.config.init_from)}

    @property
    def settings(self) -> RunSettings:
        """Settings of the configuration."""
        return build_settings(self.config)

    @property
    def reported_split(self) -> str:
        """Split whose scores are reported."""
        evaluation = self.config.evaluation
        return str(evaluation.reported_split or evaluation.split)

    @property
    def train_steps(self) -> int:
        """Steps to train; an ensemble has none."""
        return 0 if self.members else int(self.config.num_steps)


class Planner:
    """Creates runs, and collects their starts.

    Attributes:
      starts: folder -> run to train before the runs that begin from its last checkpoint.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        config_path: str,
        starts_dir: pathlib.Path | None = None,
    ):
        """Creates a planner without runs.

        Args:
          workdir: folder of the study.
          config_path: Python file with get_config(variant), without a variant.
          starts_dir: folder of the starts, which several studies may share; None: workdir/starts.
        """
        self._workdir, self._config_path = workdir, config_path
        self._starts_dir = starts_dir or workdir / STARTS
        self._fields: dict[str, Collection[str]] = {}  # Method -> its fields.
        self.starts: dict[str, Run] = {}

    def create(
        self,
        method: str,
        name: str,
        flags: Sequence[str],
        *,
        seed: int,
        varied: Sequence[str] = (),
        has_value: bool = False,
    ) -> Run:
        """Creates the run of a method, and its start if it has one.

        Args:
          method: variant of the configuration.
          name: name of the method in tables and folders.
          flags: --config.FIELD=VALUE; the method takes those of fields that it has.
          seed: seed of the run.
          varied: fields whose values differ from run to run, so that they are in the folder's name.
          has_value: whether the value of the one varied field is the run's value.
        Raises:
          UserError: if a flag is wrong, or the run would not use it.
        """
        flags = [*flags, f"--config.seed={seed}"]
        used = select_flags(flags, self.list_fields(method))
        run_config = configuration.read_config(self._config_path, method, used)
        found = flatten(run_config)
        setting = {field: found[field] for field in varied if found.get(field) is not None}
        if run_config.start_variant:
            _check_start(run_config.start_variant, method, used)
            start = self._create_start(run_config, flags, setting)
            self.starts.setdefault(start.folder, start)
            with run_config.unlocked():
                run_config.init_from = str(start.workdir)
        build_settings(run_config)
        value = setting.get(varied[0]) if has_value else None
        folder = _folder(name, setting, seed)
        return Run(name, value, seed, self._workdir, folder, run_config)

    def list_fields(self, method: str) -> Collection[str]:
        """Lists the fields of a method's configuration."""
        if method not in self._fields:
            alone = configuration.read_config(self._config_path, method, [])
            self._fields[method] = flatten(alone).keys()
        return self._fields[method]

    def _create_start(
        self,
        run_config: ml_collections.ConfigDict,
        flags: Sequence[str],
        setting: Mapping[str, Any],
    ) -> Run:
        """Creates the run that `run_config` starts from, with the flags that both share.

        The start ignores flags of all other fields, so studies of several targets may share it.
        """
        variant, seed = run_config.start_variant, run_config.seed
        shared = _list_shared(
            build_settings(configuration.read_config(self._config_path, variant, []))
        )
        start_config = configuration.read_config(
            self._config_path, variant, [*select_flags(flags, shared), f"--config.seed={seed}"]
        )
        build_settings(start_config)
        setting = {field: value for field, value in setting.items() if field in shared}
        folder = _folder(variant, setting, seed)
        return Run(variant, None, seed, self._starts_dir, folder, start_config)


def field_of(flag: str) -> str:
    """Returns the field that a flag sets."""
    return flag.removeprefix("--config.").partition("=")[0]


def select_flags(flags: Sequence[str], fields: Collection[str]) -> list[str]:
    """Selects the flags whose fields a method has."""
    return [flag for flag in flags if field_of(flag) in fields]


def _check_start(start_variant: str, method: str, flags: Sequence[str]) -> None:
    """Refuses init_from for a method that starts from a run of the study itself."""
    given = next((flag for flag in flags if field_of(flag) == "init_from"), None)
    if given is not None:
        raise UserError(
            f"{given} is given, but {method} starts from the study's own run of {start_variant}, "
            "so that it would not be used: leave it out, or add --config.start_variant= to start "
            "from it instead."
        )


def _folder(name: str, setting: Mapping[str, Any], seed: int) -> str:
    varied = "".join(f"-{field}-{describe_value(value)}" for field, value in setting.items())
    return f"{name}{varied}/seed_{seed}"


def _list_shared(start: RunSettings) -> set[str]:
    """Lists the fields that a run and its start share: data, network, size of crops.

    Fields of domains that the start does not read are not shared.
    """
    weights = set(list_fields(start, of_weights=True))
    read = {domain for view in start.views.values() for domain in view.domains}
    unread = {"target", "target_split"} if "target" not in read else set()
    exempt = {"data.batch_size", "evaluation.every_steps", *(f"data.{name}" for name in unread)}
    return {
        name
        for name in list_fields(start)
        if name not in exempt
        and (
            name.startswith(("data.", "evaluation."))
            or (name.startswith("model.") and name in weights)
            or (name.startswith("views.") and name.endswith(".size"))
        )
    }
