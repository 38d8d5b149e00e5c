"""Trains and scores the unfinished runs of a plan, and keeps the finished ones.

A finished run is known by two small files, config.json and scores.json.

Synopsis:

  study = run(plan, about, save)   # calls save(study) after every run
"""

import functools
import logging
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from alp_jax.command import progress
from alp_jax.errors import UserError, shorten
from alp_jax.study import scoring, timing
from alp_jax.study.jobs import train_all
from alp_jax.study.plan import Plan
from alp_jax.study.runs import Run
from alp_jax.study.scores import FILE_NAME, STUDY, About, RunScores, Study, load
from alp_jax.workdir import checkpoint, outputs

logger = logging.getLogger(__name__)


def run(plan: Plan, about: About, save: Callable[[Study], object], *, jobs: int = 1) -> Study:
    """Trains and scores the starts, then the runs; interrupted ones continue.

    Args:
      plan: runs of the study.
      about: description of the study, for its result.
      save: called with the finished part of the study, after every run.
      jobs: number of runs to train at the same time.
    Raises:
      UserError: as `complete`; or, before anything is trained or written, if the tables would lose
        a run.
    """
    _check_lengths(plan)
    _check_earlier_study(plan)
    study = Study(about, complete(plan, lambda scores: save(Study(about, scores)), jobs=jobs))
    save(study)
    return study


def complete(
    plan: Plan,
    save: Callable[[tuple[RunScores, ...]], object] = lambda _: None,
    *,
    jobs: int = 1,
) -> tuple[RunScores, ...]:
    """Trains and scores the unfinished runs of a plan; returns the scores of `plan.runs`.

    Args:
      plan: the runs.
      save: called with the scores of the finished ones of `plan.runs`, after each of them.
      jobs: number of runs to train at the same time, each in a process of its own.
    Raises:
      UserError: as `train.train_and_evaluate`; or, before anything is trained or written, if a run
        differs from the plan or is further than it.
    """
    runs = plan.in_order
    _check_lengths(plan)
    finished = {planned.workdir: scoring.read_scores(planned) for planned in runs}
    _check_diverged(runs, finished)
    waiting = find_waiting(plan, finished)
    total_steps = sum(planned.train_steps for planned in runs)
    done_steps = total_steps - sum(planned.train_steps for planned in waiting)
    if len(waiting) < len(runs):
        logger.info("%d of %d runs are finished already.", len(runs) - len(waiting), len(runs))

    def reported() -> tuple[RunScores, ...]:
        scores = (finished[planned.workdir] for planned in plan.runs)
        return tuple(found for found in scores if found is not None)

    outputs.mark(plan.runs[0].root, STUDY)
    steps = sorted({planned.config.num_steps for planned in waiting if planned in plan.starts})
    if steps:
        logger.info(
            "First come the runs that methods start from, to step %s: --config.num_steps changes "
            "the methods' steps alone; for shorter starts give as --config a copy of the file that "
            "sets theirs.",
            " or ".join(map(str, steps)),
        )
    train = _train_in_order if jobs == 1 else functools.partial(_train_at_once, jobs=jobs)
    for planned, scores in train(waiting, done_steps, total_steps):
        finished[planned.workdir] = scores
        if planned in plan.runs:
            save(reported())
    return reported()


def _train_in_order(
    waiting: Sequence[Run], done_steps: int, total_steps: int
) -> Iterator[tuple[Run, RunScores]]:
    """Trains and scores one run after another."""
    with progress.TrainProgress(done_steps, total_steps) as bar:
        for number, planned in enumerate(waiting, start=1):
            logger.info("Run %d of %d: %s", number, len(waiting), planned.workdir)
            part = progress.PartProgress(bar, planned.folder, done_steps)
            yield planned, scoring.train_and_score(planned, part)
            done_steps += planned.train_steps


def _train_at_once(
    waiting: Sequence[Run], done_steps: int, total_steps: int, *, jobs: int
) -> Iterator[tuple[Run, RunScores]]:
    """Trains and scores several runs at a time."""
    started, first = time.monotonic(), done_steps
    for number, (planned, scores) in enumerate(train_all(waiting, jobs), start=1):
        yield planned, scores
        done_steps += planned.train_steps
        rate = (time.monotonic() - started) / max(done_steps - first, 1)
        left = timing.describe(rate * (total_steps - done_steps))
        logger.info("Finished %d of %d: %s; %s left", number, len(waiting), planned.workdir, left)


def _check_diverged(runs: Sequence[Run], finished: Mapping[pathlib.Path, RunScores | None]) -> None:
    """Refuses a run without scores where these are reported, or where other runs start from it."""
    for planned in runs:
        scores = finished[planned.workdir]
        if scores is not None and scores.diverged and not planned.may_diverge:
            raise UserError(f"{planned.workdir} diverged, so it has no scores: {scores.diverged}")


def find_waiting(plan: Plan, finished: Mapping[pathlib.Path, RunScores | None]) -> list[Run]:
    """Finds the runs to train or score, in their order.

    A finished run needs no checkpoint, so that a study may be copied without them. A start, or a
    member of an ensemble, is trained where another run needs it, again if it has no checkpoint.
    """
    reported = {planned.workdir for planned in plan.runs}
    needed: set[pathlib.Path] = set()
    waiting = []
    for planned in reversed(plan.in_order):
        folder = planned.workdir
        has_checkpoint = bool(checkpoint.list_steps(folder))
        is_missing = folder in needed and not has_checkpoint
        if is_missing or (finished[folder] is None and folder in reported | needed):
            waiting.append(planned)
            needed |= planned.needed
    return waiting[::-1]


def _check_lengths(plan: Plan) -> None:
    """Refuses a plan of fewer steps than a run has: its scores would be of other steps.

    Raises:
      UserError: naming the run that is furthest.
    """
    trained = (*plan.members, *plan.runs)
    for planned in (*sorted(trained, key=scoring.last_step, reverse=True), *plan.starts):
        step, asked = scoring.last_step(planned), planned.config.num_steps
        if step <= asked:
            continue
        if planned in plan.starts:
            raise UserError(
                f"The start {planned.workdir} is at step {step} already, and its configuration "
                f"asks for num_steps {asked}: give the configuration that it was trained with, or "
                "another folder as --starts."
            )
        raise UserError(
            f"The run {planned.workdir} is at step {step} already, and the study asks for "
            f"config.num_steps {asked}: give --config.num_steps={step} or more, so that all runs "
            "of the study are equally long, or another --workdir."
        )


def _check_earlier_study(plan: Plan) -> None:
    """Refuses a plan that lacks runs of the study that the folder holds.

    Raises:
      UserError: naming the runs that its tables would lose.
    """
    workdir = plan.runs[0].root
    if not (workdir / FILE_NAME).exists():
        return
    planned = {run.folder for run in plan.runs}
    lost = [run.workdir for run in load(workdir).runs if run.workdir not in planned]
    if lost:
        raise UserError(
            f"The study in {workdir} has runs that this one lacks, so its tables would lose them: "
            f"{shorten(lost, 4)}; give its --methods, --seeds and --sweep and any more, or another "
            "--workdir."
        )
