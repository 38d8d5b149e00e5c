"""Runs an experiment: chooses for every method among its candidates, then trains all seeds.

Synopsis:

  tuner = Tuner(experiment, workdir, starts_dir=None)
  print(tuner.describe(path))
  scores = tuner.run(save)             # tuner.choices: what every method chose

A candidate is chosen by mean IoU on the evaluation split, so with target labels, after the last
step, averaged over the tuning seeds. An entry with a base begins with the base's chosen fields.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable

from alp_jax.errors import UserError, shorten
from alp_jax.settings.compare import as_flags
from alp_jax.study import choices, ensembles, runner, scoring, timing
from alp_jax.study.choices import Choice
from alp_jax.study.experiment import Entry, Experiment, Fields
from alp_jax.study.plan import Plan, check_overrides
from alp_jax.study.runs import Planner, Run
from alp_jax.study.scores import FILE_NAME as STUDY_FILE
from alp_jax.study.scores import STUDY, RunScores, load
from alp_jax.workdir import files, outputs

FILE_NAME = "tuning.json"


class Tuner:
    """Plans and runs an experiment.

    Attributes:
      experiment: the plan.
      workdir: folder of the study.
      choices: name of an entry -> its choice, once that is made.
    """

    def __init__(
        self,
        experiment: Experiment,
        workdir: pathlib.Path,
        starts_dir: pathlib.Path | None = None,
        *,
        jobs: int = 1,
    ):
        """Reads the configurations, and the choices that finished runs allow.

        Args:
          experiment: the plan.
          workdir: folder of the study.
          starts_dir: folder of the starts, as for `create_plan`.
          jobs: number of runs to train at the same time.
        Raises:
          UserError: for an unknown variant or field, a member of an ensemble that is no entry, or a
            choice by the split that is reported.
        """
        self.experiment, self.workdir, self._jobs = experiment, workdir, jobs
        self._planner = Planner(workdir, experiment.config, starts_dir)
        variants = [entry.variant for entry in experiment.entries]
        self._members = ensembles.find(experiment.config, variants)
        self.choices: dict[str, Choice] = {}
        self._flags = as_flags(experiment.fields)
        trained = [variant for variant in variants if variant not in self._members]
        check_overrides(self._flags, {v: self._planner.list_fields(v) for v in trained})
        for entry in experiment.entries:
            self._check(entry)
        self._choose_finished()

    def _check(self, entry: Entry) -> None:
        entries = self.experiment.entries
        if members := self._members.get(entry.variant):
            known = {other.variant for other in entries}
            lacking = [member for member in members if member not in known]
            if lacking or entry.candidates or entry.fields or entry.base:
                raise UserError(
                    f"{entry.name} is an ensemble of {', '.join(members)}: expected entries of all "
                    "of these, and an entry without candidates, fields and base for the ensemble."
                )
            return
        known_fields = self._planner.list_fields(entry.variant)
        for field in (*entry.varied, *entry.fields):
            if field not in known_fields:
                raise UserError(
                    f"{entry.name} sets {field}, a field that {entry.variant} lacks: expected one "
                    "of its configuration."
                )
        if entry.candidates:
            config = self._create(entry, {**entry.candidates[0]}, 0).config
            evaluation = config.evaluation
            if evaluation.reported_split in ("", evaluation.split):
                raise UserError(
                    f"{entry.name} would be chosen on the split {evaluation.split}, which is also "
                    "the one that is reported: set config.evaluation.reported_split to another."
                )

    def _create(self, entry: Entry, fields: Fields, seed: int) -> Run:
        own = as_flags({**entry.fields, **fields})
        return self._planner.create(
            entry.variant, entry.name, [*self._flags, *own], seed=seed, varied=tuple(fields)
        )

    # Choosing.

    def _list_candidates(self, entry: Entry) -> list[Fields]:
        """Lists the fields of each candidate; none while the base's choice is not made."""
        if entry.base and entry.base not in self.choices:
            return []
        return [{**self._base_fields(entry), **candidate} for candidate in entry.candidates]

    def _base_fields(self, entry: Entry) -> Fields:
        return self.choices[entry.base].fields if entry.base else {}

    def _plan_choice(self, entry: Entry) -> list[list[Run]]:
        """Plans the runs to choose by: a list for each candidate, by seed."""
        seeds = self.experiment.tuning_seeds
        return [
            [
                dataclasses.replace(self._create(entry, fields, seed), may_diverge=True)
                for seed in seeds
            ]
            for fields in self._list_candidates(entry)
        ]

    def _choose_finished(self) -> None:
        """Makes the choices for which all runs are finished."""
        for entry in self.experiment.entries:
            if entry.base and entry.base not in self.choices:
                continue
            if not entry.candidates:
                self.choices[entry.name] = Choice(self._base_fields(entry))
                continue
            found = [[scoring.read_scores(run) for run in row] for row in self._plan_choice(entry)]
            finished = [[scores for scores in row if scores is not None] for row in found]
            if list(map(len, finished)) == list(map(len, found)):
                candidates = self._list_candidates(entry)
                self.choices[entry.name] = choices.choose(entry.name, candidates, finished)

    # The plan.

    def describe(self, file: str) -> str:
        """Describes the whole plan, and the time that is left of it."""
        experiment = self.experiment
        trained = [e for e in experiment.entries if e.variant not in self._members]
        choosing = [entry for entry in trained if entry.candidates]
        num_choice = len(choosing) * experiment.num_candidates * len(experiment.tuning_seeds)
        lines = [
            f"Plan: {len(experiment.entries)} methods. To choose from {experiment.num_candidates} "
            f"candidates each: {num_choice} runs of {len(choosing)} methods. To report: "
            f"{len(trained) * len(experiment.seeds)} runs of seeds "
            f"{', '.join(map(str, experiment.seeds))}; a run is in both where its seed is."
        ]
        plan, unknown = self._survey()
        finished = {run.workdir: scoring.read_scores(run) for run in plan.in_order}
        waiting = runner.find_waiting(plan, finished)
        done = [run for run in plan.in_order if run not in waiting]
        estimate = timing.Estimate(timing.read_all(done), experiment.seconds_per_step)
        left = [(run.method, run.train_steps) for run in waiting] + unknown
        steps = sum(count for _, count in left)
        lines.append(
            f"Finished: {len(done)} runs. Left: {len(left)} runs, {steps:,} steps, about "
            f"{timing.describe(estimate.seconds(left) / self._jobs)} "
            f"({estimate.describe_source(file)})."
        )
        return "\n".join(lines)

    def _survey(self) -> tuple[Plan, list[tuple[str, int]]]:
        """Plans all trainings that are known by now, and lists (method, steps) of the others.

        The final runs of a method that has not chosen are not known; they are as long as its first.
        """
        seeds, tuning_seeds = self.experiment.seeds, self.experiment.tuning_seeds
        runs: list[Run] = []
        unknown: list[tuple[str, int]] = []
        for entry in self.experiment.entries:
            if entry.variant in self._members:
                continue
            runs += [run for row in self._plan_choice(entry) for run in row]
            if entry.name in self.choices:
                runs += [self._create(entry, self.choices[entry.name].fields, s) for s in seeds]
                continue
            final = [self._create(entry, {}, seed) for seed in seeds]  # Adds their starts.
            steps = final[0].train_steps
            is_waiting = entry.base and entry.base not in self.choices
            count = len(entry.candidates) * len(tuning_seeds) if is_waiting else 0
            unknown += [(entry.name, steps)] * (len(seeds) + count)
        plan = self._as_plan(runs)
        others = [start for start in self._planner.starts.values() if start not in plan.starts]
        if unknown:
            unknown += [(start.method, start.train_steps) for start in others
                        if scoring.read_scores(start) is None]  # fmt: skip
        return plan, unknown

    # Running.

    def check_earlier_study(self) -> None:
        """Refuses an experiment that lacks runs of the study that the folder holds.

        Raises:
          UserError: naming the runs that the tables would lose.
        """
        if not (self.workdir / STUDY_FILE).exists():
            return
        planned = {
            (e.name, seed) for e in self.experiment.entries for seed in self.experiment.seeds
        }
        runs = load(self.workdir).runs
        lost = [run.workdir for run in runs if (run.method, run.seed) not in planned]
        if lost:
            raise UserError(
                f"The study in {self.workdir} has runs that this experiment lacks, so its tables "
                f"would lose them: {shorten(lost, 4)}; keep its entries and seeds, or give another "
                "--workdir."
            )

    def run(self, save: Callable[[Plan, tuple[RunScores, ...]], object]) -> None:
        """Trains and scores all runs: those to choose by, stage by stage, then those to report.

        Args:
          save: called with the plan of the reported runs and the scores of the finished ones, after
            each, and at the end.
        Raises:
          UserError: as `runner.complete`; or if no labels are there to choose by.
        """
        for stage in self.experiment.list_stages():
            waiting = [entry for entry in stage if entry.name not in self.choices]
            runs = [run for e in waiting for row in self._plan_choice(e) for run in row]
            if runs:
                runner.complete(self._as_plan(runs), jobs=self._jobs)
            self._choose_finished()
            self.save_choices()
        plan = self.plan_reported()
        save(plan, runner.complete(plan, lambda scores: save(plan, scores), jobs=self._jobs))

    def _as_plan(self, runs: Iterable[Run]) -> Plan:
        found = tuple({run.workdir: run for run in runs}.values())
        needed = {pathlib.Path(run.config.init_from) for run in found if not run.members}
        starts = [start for start in self._planner.starts.values() if start.workdir in needed]
        return Plan(tuple(starts), found)

    def plan_reported(self) -> Plan:
        """Plans the runs to report, when all methods have chosen: all of the first seed first."""
        runs: list[Run] = []
        for seed in self.experiment.seeds:
            trained = {
                entry.name: self._create(entry, self.choices[entry.name].fields, seed)
                for entry in self.experiment.entries
                if entry.variant not in self._members
            }
            for entry in self.experiment.entries:
                members = self._members.get(entry.variant)
                if members is None:
                    runs.append(trained[entry.name])
                else:
                    weighted = [(trained[self._name_of(m)], w) for m, w in members.items()]
                    runs.append(ensembles.create(entry.name, weighted))
        return self._as_plan(runs)

    def _name_of(self, variant: str) -> str:
        """Returns the name of the first entry of a variant."""
        return next(e.name for e in self.experiment.entries if e.variant == variant)

    def save_choices(self) -> None:
        """Writes tuning.json: what every method chose, by which scores."""
        outputs.mark(self.workdir, STUDY)
        files.write_json(self.workdir / FILE_NAME, choices.describe(self.experiment, self.choices))
