"""Plans the runs of a study: methods x values of a swept field x seeds, and their starts.

Synopsis:

  plan = create_plan(workdir, "configs/toy_cities.py", [], methods=("source_only", "alp_gi"),
                     num_seeds=5, sweep="patch_size:16,32")
  for run in (*plan.starts, *plan.runs): ...
"""

import dataclasses
import difflib
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
    """One training.

    Attributes:
      method: name of the variant; of a user's own file, without folder and ending.
      value: value of the swept field, as in JSON; None if the method does not use the field.
      seed: seed of the run.
      root: folder of all runs, or of all starts.
      folder: folder of the run, relative to the root.
      config: the whole configuration.
    """

    method: str
    value: Any
    seed: int
    root: pathlib.Path
    folder: str
    config: ml_collections.ConfigDict

    @property
    def workdir(self) -> pathlib.Path:
        """Folder of the run."""
        return self.root / self.folder

    @property
    def settings(self) -> RunSettings:
        """Settings of the configuration."""
        return build_settings(self.config)

    @property
    def reported_split(self) -> str:
        """Split whose scores are reported."""
        evaluation = self.config.evaluation
        return str(evaluation.reported_split or evaluation.split)


@dataclasses.dataclass(frozen=True)
class Plan:
    """All runs of a study.

    Attributes:
      starts: runs to train first; `runs` begin from their last checkpoints.
      runs: runs to report: all methods of the first seed, then of the second, and so on.
      sweep_field: dotted name of the swept field, or None.
      sweep_values: values of the swept field, as in JSON.
    """

    starts: tuple[Run, ...]
    runs: tuple[Run, ...]
    sweep_field: str | None
    sweep_values: tuple[Any, ...]


def create_plan(
    workdir: pathlib.Path,
    config_path: str,
    overrides: Sequence[str],
    *,
    methods: Sequence[str],
    num_seeds: int,
    sweep: str | None,
    starts_dir: pathlib.Path | None = None,
) -> Plan:
    """Plans the runs, and reads the configuration of each.

    Args:
      workdir: folder of the study.
      config_path: Python file with get_config(variant), without a variant.
      overrides: flags --config.FIELD=VALUE for every method that has the field; a start takes
        the flags about data, network and crops.
      methods: variants of the configuration.
      num_seeds: seeds 0 to num_seeds - 1.
      sweep: "FIELD:VALUE,VALUE,..." or None; FIELD may be the last part of a name, and a pair is
        written 32x64, or 32 for 32x32.
      starts_dir: folder of the starts, which several studies may share; None: workdir/starts.
    Raises:
      UserError: for an unknown method, field or value, or a list that is empty.
    """
    if not methods or "" in methods or len(set(methods)) < len(methods):
        raise UserError(
            f"--methods is {','.join(methods)!r}: expected different variants of the configuration "
            "separated by commas, such as source_only,alp_gi."
        )
    names = _name_methods(methods)
    fields_of = {
        method: flatten(configuration.read_config(config_path, method, [])) for method in names
    }
    _check_overrides(overrides, fields_of)
    field, sweep_flags = _parse_sweep(sweep, fields_of)
    starts: dict[str, Run] = {}
    runs: dict[str, Run] = {}
    values: list[Any] = []
    for seed in range(num_seeds):
        for method in methods:
            for sweep_flag in sweep_flags or [[]]:
                flags = [*overrides, *sweep_flag, f"--config.seed={seed}"]
                used = _select_flags(flags, fields_of[method])
                run_config = configuration.read_config(config_path, method, used)
                value = flatten(run_config).get(field) if field else None
                if value is not None and value not in values:
                    values.append(value)
                folder = _folder(names[method], field, value, seed)
                if folder in runs:
                    continue
                if run_config.start_variant:
                    _check_start(run_config.start_variant, method, used)
                    root = starts_dir or workdir / STARTS
                    start = _create_start(root, config_path, run_config, flags, field, value)
                    starts.setdefault(start.folder, start)
                    with run_config.unlocked():
                        run_config.init_from = str(start.workdir)
                build_settings(run_config)
                runs[folder] = Run(names[method], value, seed, workdir, folder, run_config)
    return Plan(tuple(starts.values()), tuple(runs.values()), field, tuple(values))


def _check_start(start_variant: str, method: str, flags: Sequence[str]) -> None:
    """Refuses init_from for a method that starts from a run of the study itself."""
    given = next((flag for flag in flags if _field_of(flag) == "init_from"), None)
    if given is not None:
        raise UserError(
            f"{given} is given, but {method} starts from the study's own run of {start_variant}, "
            "so that it would not be used: leave it out, or add --config.start_variant= to start "
            "from it instead."
        )


def _name_methods(methods: Sequence[str]) -> dict[str, str]:
    """Names methods in tables and folders: a user's own file without its folder and ending.

    Raises:
      UserError: if two files have the same name.
    """
    names = {m: pathlib.Path(m).stem if m.endswith(".py") else m for m in methods}
    for method, name in names.items():
        same = [other for other in names if names[other] == name]
        if len(same) > 1:
            raise UserError(
                f"--methods has {' and '.join(same)}, which would both be called {name}: rename "
                f"{method}."
            )
    return names


def _field_of(flag: str) -> str:
    return flag.removeprefix("--config.").partition("=")[0]


def _select_flags(flags: Sequence[str], fields: Collection[str]) -> list[str]:
    """Selects the flags whose fields a method has."""
    return [flag for flag in flags if _field_of(flag) in fields]


def _check_overrides(overrides: Sequence[str], fields_of: Mapping[str, Collection[str]]) -> None:
    """Refuses a flag whose field no method has."""
    for flag in overrides:
        if not any(_field_of(flag) in fields for fields in fields_of.values()):
            known = {name for fields in fields_of.values() for name in fields}
            near = difflib.get_close_matches(_field_of(flag), known, n=1)
            hint = f" (did you mean --config.{near[0]}?)" if near else ""
            raise UserError(
                f"{flag} sets a field that none of {', '.join(fields_of)} has{hint}: expected a "
                "field of their configurations."
            )


def _parse_sweep(
    sweep: str | None, fields_of: Mapping[str, Mapping[str, Any]]
) -> tuple[str | None, list[list[str]]]:
    """Returns the dotted name of the field, and for each of its values a list with its flag."""
    if sweep is None:
        return None, []
    name, _, values = sweep.partition(":")
    fields = {field: value for found in fields_of.values() for field, value in found.items()}
    found = [field for field in fields if field == name or field.endswith(f".{name}")]
    if len(found) != 1 or not values:
        near = difflib.get_close_matches(name, [f.rsplit(".", 1)[-1] for f in fields], n=1)
        hint = f" (did you mean {near[0]}?)" if near and not found else ""
        raise UserError(
            f"--sweep is {sweep!r}{hint}: expected FIELD:VALUE,VALUE with a field of the "
            "configuration, such as patch_size:32,48 or adversarial.weight:0.001,0.01"
            + (f"; {name} may be {' or '.join(found)}." if len(found) > 1 else ".")
        )
    (field,) = found
    if field == "seed":
        raise UserError("--sweep cannot vary the seed: give --seeds, the number of them.")
    flags = []
    for value in values.split(","):
        if not value:
            raise UserError(
                f"--sweep is {sweep!r}, where a value is empty: expected FIELD:VALUE,VALUE with a "
                "value before and after each comma."
            )
        text = value.replace("x", ",")
        if isinstance(fields[field], list) and "," not in text:
            text = ",".join([text] * len(fields[field]))
        flags.append([f"--config.{field}={text if isinstance(fields[field], list) else value}"])
    return field, flags


def _folder(method: str, field: str | None, value: Any, seed: int) -> str:
    setting = f"-{field}-{describe_value(value)}" if value is not None else ""
    return f"{method}{setting}/seed_{seed}"


def _create_start(
    root: pathlib.Path,
    config_path: str,
    run_config: ml_collections.ConfigDict,
    flags: Sequence[str],
    field: str | None,
    value: Any,
) -> Run:
    """Creates the run that `run_config` starts from, with the flags that both share.

    The start ignores flags of all other fields, so studies of several targets may share it.
    """
    variant, seed = run_config.start_variant, run_config.seed
    alone = configuration.read_config(config_path, variant, [])
    shared = _list_shared(build_settings(alone))
    shared_flags = _select_flags(flags, shared)
    start_config = configuration.read_config(
        config_path, variant, [*shared_flags, f"--config.seed={seed}"]
    )
    build_settings(start_config)
    if field not in shared:
        value = None
    return Run(variant, value, seed, root, _folder(variant, field, value, seed), start_config)


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
