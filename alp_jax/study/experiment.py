"""Declares an experiment: many methods, how each chooses its weights, and the seeds to report.

Synopsis, a file of its own (configs/experiments):

  EXPERIMENT = Experiment(
      config="configs/toy_cities.py",
      entries=(
          *with_alignment(Entry("source_only"), 0.003, 0.01, 0.03),
          Entry("minent", candidates=over("terms.entropy.weight", 0.001, 0.01, 0.1)),
      ),
      seeds=(0, 1, 2),
      tuning_seeds=(5,),
      seconds_per_step=0.3,
  )

Every method chooses from the same number of candidates, on the evaluation split; scores that are
reported are of another split.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from alp_jax.command import shipped
from alp_jax.errors import UserError, describe_near
from alp_jax.settings import kinds

SOURCE_ONLY = "source_only"  # Variant without adaptation, which every method is compared with.
_PACKAGE = "configs.experiments"
_TITLES = {"whole": "whole maps", "patches": "ALP"}

Fields = Mapping[str, Any]
Role = Literal["method", "whole", "patches"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One method of an experiment, a row of its table.

    Attributes:
      variant: variant of the configuration.
      candidates: settings to choose from, each of one or two fields; empty: nothing to choose.
      name: name in folders and files; empty: the variant's.
      title: name in tables and pictures; empty: the name.
      fields: further fields of the method, in every run.
      base: name of the entry that this one adds to: it begins with that one's chosen fields, and is
        compared with it.
      role: "method"; or what is added to the base: "whole", an alignment of whole maps, or
        "patches", of random patches.
    """

    variant: str
    candidates: tuple[Fields, ...] = ()
    name: str = ""
    title: str = ""
    fields: Fields = dataclasses.field(default_factory=dict)
    base: str = ""
    role: Role = "method"

    @property
    def varied(self) -> tuple[str, ...]:
        """Fields that the candidates set."""
        return tuple(self.candidates[0]) if self.candidates else ()


class Pair(NamedTuple):
    """Two methods to compare, first minus second; `base` is the method that was added to."""

    base: Entry
    first: Entry
    second: Entry


def pair_additions(entries: Sequence[Entry]) -> list[Pair]:
    """Pairs every addition with its base, and random patches with whole maps on the same base.

    Returns:
      for each base: whole maps minus base, patches minus base, patches minus whole maps.
    """
    found = []
    for base in entries:
        added = [entry for entry in entries if entry.base == base.name]
        whole = [entry for entry in added if entry.role == "whole"]
        patches = [entry for entry in added if entry.role == "patches"]
        others = [entry for entry in added if entry.role == "method"]
        found += [Pair(base, entry, base) for entry in (*whole, *patches, *others)]
        found += [Pair(base, first, second) for first in patches for second in whole]
    return found


def pair_with_source_only(entries: Sequence[Entry]) -> list[Pair]:
    """Pairs every method that adds to no other with source-only; none without source-only."""
    methods = [entry for entry in entries if not entry.base]
    bases = [entry for entry in methods if entry.variant == SOURCE_ONLY][:1]
    return [Pair(base, entry, base) for base in bases for entry in methods if entry is not base]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A plan of many methods.

    Attributes:
      config: Python file with get_config(variant).
      entries: the methods, in the order of the table; a base stands before what is added to it.
      seeds: seeds that are reported.
      tuning_seeds: seeds of the runs that candidates are chosen by; with others than `seeds`, no
        reported run had a part in the choice.
      fields: fields of every method that has them.
      seconds_per_step: seconds of a step with its share of evaluation, an estimate for the time
        that is left before any run is finished.
    """

    config: str
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    tuning_seeds: tuple[int, ...] = ()
    fields: Fields = dataclasses.field(default_factory=dict)
    seconds_per_step: float = 1.0

    @property
    def num_candidates(self) -> int:
        """Number of candidates of every method that chooses; 0 if none does."""
        return max((len(entry.candidates) for entry in self.entries), default=0)

    def find(self, name: str) -> Entry:
        """Returns the entry of a name."""
        return next(entry for entry in self.entries if entry.name == name)

    def list_pairs(self) -> list[Pair]:
        """Lists what the experiment compares: methods with source-only, additions with bases."""
        return [*pair_with_source_only(self.entries), *pair_additions(self.entries)]

    def list_stages(self) -> list[list[Entry]]:
        """Groups the entries so that a base is in an earlier group than what is added to it."""
        stages: list[list[Entry]] = []
        stage_of = {"": -1}
        for entry in self.entries:
            stage_of[entry.name] = stage = stage_of[entry.base] + 1
            stages += [[] for _ in range(stage + 1 - len(stages))]
            stages[stage].append(entry)
        return stages


def over(field: str, *values: Any) -> tuple[Fields, ...]:
    """Creates candidates that differ in one field."""
    return tuple({field: value} for value in values)


def with_alignment(entry: Entry, *weights: float) -> tuple[Entry, Entry, Entry]:
    """Returns a method, the method with alignment of whole maps, and with that of random patches.

    Args:
      entry: the method.
      weights: candidates of the weight of the alignment.
    """
    return entry, _add(entry, "agp", "whole", weights), _add(entry, "alp", "patches", weights)


def _add(entry: Entry, addition: str, role: Role, weights: Sequence[float]) -> Entry:
    """Creates the entry of a method with an addition of configs/additions."""
    base = entry.name or _usual_name(entry.variant)
    return Entry(
        f"{entry.variant}+{addition}",
        over(f"terms.adversarial_{addition}.weight", *weights),
        name=f"{base}+{addition}",
        title=f"{entry.title or base} + {_TITLES[role]}",
        fields=entry.fields,
        base=base,
        role=role,
    )


def load(path: str) -> Experiment:
    """Reads the EXPERIMENT of a file.

    Args:
      path: a Python file, or the name of one in configs/experiments.
    Raises:
      UserError: if there is no such file, or its experiment does not hold together.
    """
    shipped.make_importable()
    module = kinds.load_module(_PACKAGE, path, name="--experiment")
    found = getattr(module, "EXPERIMENT", None)
    if not isinstance(found, Experiment):
        raise UserError(
            f"--experiment is {path!r}: expected {module.__file__} to have EXPERIMENT = "
            "Experiment(...) of alp_jax.study.experiment."
        )
    named = tuple(_name(entry) for entry in found.entries)
    experiment = dataclasses.replace(found, entries=named)
    _check(experiment, f"EXPERIMENT of {path}")
    return experiment


def _usual_name(variant: str) -> str:
    return "+".join(pathlib.Path(part).stem for part in variant.split("+"))


def _name(entry: Entry) -> Entry:
    name = entry.name or _usual_name(entry.variant)
    return dataclasses.replace(entry, name=name, title=entry.title or name)


def _check(experiment: Experiment, where: str) -> None:
    """Refuses an experiment that does not hold together."""
    if not experiment.entries:
        raise UserError(f"{where} has no entries: expected at least one method.")
    known: list[str] = []
    for entry in experiment.entries:
        if entry.name in known:
            raise UserError(
                f"{where} has two entries {entry.name}: give one of them another name, as in "
                'Entry("advent", name="advent_2").'
            )
        if entry.base and entry.base not in known:
            raise UserError(
                f"{where}: {entry.name} has the base {entry.base!r}"
                f"{describe_near(entry.base, known)}: expected the name of an entry before it."
            )
        known.append(entry.name)
        _check_candidates(entry, experiment.num_candidates, where)
    for name, seeds in (("seeds", experiment.seeds), ("tuning_seeds", experiment.tuning_seeds)):
        needed = name == "seeds" or experiment.num_candidates > 0
        if len(set(seeds)) < len(seeds) or min(seeds, default=0) < 0 or (needed and not seeds):
            raise UserError(f"{name} of {where} is {seeds}: expected different seeds, from 0.")
    if not experiment.seconds_per_step > 0:
        raise UserError(
            f"seconds_per_step of {where} is {experiment.seconds_per_step}: expected seconds, "
            "above 0."
        )


def _check_candidates(entry: Entry, count: int, where: str) -> None:
    if not entry.candidates:
        return
    if len(entry.candidates) != count:
        raise UserError(
            f"{where}: {entry.name} chooses from {len(entry.candidates)} candidates, and another "
            f"method from {count}: expected the same number for every method that chooses."
        )
    for candidate in entry.candidates:
        if tuple(candidate) != entry.varied or len(candidate) not in (1, 2):
            raise UserError(
                f"{where}: {entry.name} has the candidate {dict(candidate)}: expected one or two "
                "fields, the same in every candidate."
            )
    if len({tuple(candidate.values()) for candidate in entry.candidates}) < count:
        raise UserError(f"{where}: {entry.name} has equal candidates: expected different ones.")
