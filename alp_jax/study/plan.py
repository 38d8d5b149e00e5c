"""Plans the runs of a study: methods x values of a swept field x seeds, and their starts.

Synopsis:

  plan = create_plan(workdir, "configs/toy_cities.py", [], methods=("source_only", "alp_gi"),
                     num_seeds=5, sweep="patch_size:16,32")
  for run in plan.in_order: ...
"""

import dataclasses
import difflib
import pathlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from alp_jax.command import configuration
from alp_jax.errors import UserError
from alp_jax.settings.compare import flatten
from alp_jax.study import ensembles
from alp_jax.study.runs import Planner, Run, field_of


@dataclasses.dataclass(frozen=True)
class Plan:
    """All runs of a study.

    Attributes:
      starts: runs to train first; others begin from their last checkpoints.
      runs: runs to report: all methods of the first seed, then of the second, and so on.
      members: runs that only an ensemble of `runs` needs; they are not reported.
      sweep_field: dotted name of the swept field, or None.
      sweep_values: values of the swept field, in order, as in JSON.
    """

    starts: tuple[Run, ...]
    runs: tuple[Run, ...]
    members: tuple[Run, ...] = ()
    sweep_field: str | None = None
    sweep_values: tuple[Any, ...] = ()

    @property
    def in_order(self) -> tuple[Run, ...]:
        """All runs, each after the runs that it needs: starts, then seed by seed."""
        others = (*self.members, *self.runs)
        return (*self.starts, *sorted(others, key=lambda run: (run.seed, bool(run.members))))


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
      methods: variants of the configuration; of an ensemble, the members are trained as well.
      num_seeds: seeds 0 to num_seeds - 1.
      sweep: "FIELD:VALUE,VALUE,..." or None; FIELD may be the last part of a name, and a pair is
        written 32x64, or 32 for 32x32.
      starts_dir: folder of the starts, which several studies may share; None: workdir/starts.
    Raises:
      UserError: for an unknown method, field or value, a list that is empty, or a sweep with an
        ensemble.
    """
    if not methods or "" in methods or len(set(methods)) < len(methods):
        raise UserError(
            f"--methods is {','.join(methods)!r}: expected different variants of the configuration "
            "separated by commas, such as source_only,alp_gi."
        )
    members_of = ensembles.find(config_path, methods)
    names = name_methods(dict.fromkeys([*methods, *(m for f in members_of.values() for m in f)]))
    trained = [method for method in names if method not in members_of]
    fields_of = {
        method: flatten(configuration.read_config(config_path, method, [])) for method in trained
    }
    check_overrides(overrides, fields_of)
    field, sweep_flags = _parse_sweep(sweep, fields_of)
    if field and members_of:
        raise UserError(
            f"--sweep is {sweep!r}, and --methods has the ensemble {next(iter(members_of))}, whose "
            "members have no value in common: leave out one of both."
        )
    planner = Planner(workdir, config_path, starts_dir)
    runs: dict[str, Run] = {}
    values: list[Any] = []
    for seed in range(num_seeds):
        for method in trained:
            for sweep_flag in sweep_flags or [[]]:
                run = planner.create(
                    method,
                    names[method],
                    [*overrides, *sweep_flag],
                    seed=seed,
                    varied=[field] if field else [],
                    has_value=field is not None,
                )
                if run.value is not None and run.value not in values:
                    values.append(run.value)
                runs.setdefault(run.folder, run)
    reported, others = _place_ensembles(runs.values(), methods, names, members_of)
    return Plan(tuple(planner.starts.values()), reported, others, field, tuple(values))


def _place_ensembles(
    trained: Collection[Run],
    methods: Sequence[str],
    names: Mapping[str, str],
    members_of: Mapping[str, Mapping[str, float]],
) -> tuple[tuple[Run, ...], tuple[Run, ...]]:
    """Adds the ensembles of every seed; returns the runs to report, and their other members."""
    reported: list[Run] = []
    for seed in dict.fromkeys(run.seed for run in trained):
        of_seed = [run for run in trained if run.seed == seed]
        by_name = {run.method: run for run in of_seed}
        for method in methods:
            if method in members_of:
                weighted = [(by_name[names[m]], w) for m, w in members_of[method].items()]
                reported.append(ensembles.create(names[method], weighted))
            else:
                reported += [run for run in of_seed if run.method == names[method]]
    named = {names[method] for method in methods}
    return tuple(reported), tuple(run for run in trained if run.method not in named)


def name_methods(methods: Iterable[str]) -> dict[str, str]:
    """Names methods in tables and folders: a user's own file without its folder and ending.

    Raises:
      UserError: if two files have the same name.
    """
    names = {method: "+".join(map(_name_file, method.split("+"))) for method in methods}
    for method, name in names.items():
        same = [other for other in names if names[other] == name]
        if len(same) > 1:
            raise UserError(
                f"--methods has {' and '.join(same)}, which would both be called {name}: rename "
                f"{method}."
            )
    return names


def _name_file(part: str) -> str:
    return pathlib.Path(part).stem if part.endswith(".py") else part


def check_overrides(overrides: Sequence[str], fields_of: Mapping[str, Collection[str]]) -> None:
    """Refuses a flag whose field no method has.

    Args:
      overrides: flags --config.FIELD=VALUE.
      fields_of: method -> its fields.
    Raises:
      UserError: naming the flag.
    """
    for flag in overrides:
        if not any(field_of(flag) in fields for fields in fields_of.values()):
            known = {name for fields in fields_of.values() for name in fields}
            near = difflib.get_close_matches(field_of(flag), known, n=1)
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
