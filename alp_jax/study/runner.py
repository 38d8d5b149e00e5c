"""Trains and scores the unfinished runs of a plan, and keeps the finished ones.

A finished run is known by two small files, config.json and scores.json.

Synopsis:

  study = run(plan, about, save)   # calls save(study) after every run
"""

import dataclasses
import logging
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from alp_jax.command import progress
from alp_jax.errors import UserError, shorten
from alp_jax.evaluation import evaluator
from alp_jax.run import train
from alp_jax.study import timing
from alp_jax.study.plan import Plan
from alp_jax.study.runs import Run
from alp_jax.study.scores import FILE_NAME, STUDY, About, RunScores, Study, Summary, load
from alp_jax.workdir import checkpoint, classes, config, files, outputs
from alp_jax.workdir import scores as saved_scores
from alp_jax.workdir.settings import RunSettings

logger = logging.getLogger(__name__)

# File in the workdir of a run; it is written last, so it marks the run as finished.
SCORES_FILE = "scores.json"


def run(plan: Plan, about: About, save: Callable[[Study], object]) -> Study:
    """Trains and scores the starts, then the runs; interrupted ones continue.

    Args:
      plan: runs of the study.
      about: description of the study, for its result.
      save: called with the finished part of the study, after every run.
    Raises:
      UserError: as `complete`; or, before anything is trained or written, if the tables would lose
        a run.
    """
    _check_lengths(plan)
    _check_earlier_study(plan)
    study = Study(about, complete(plan, lambda scores: save(Study(about, scores))))
    save(study)
    return study


def complete(
    plan: Plan, save: Callable[[tuple[RunScores, ...]], object] = lambda _: None
) -> tuple[RunScores, ...]:
    """Trains and scores the unfinished runs of a plan; returns the scores of `plan.runs`.

    Args:
      plan: the runs.
      save: called with the scores of the finished ones of `plan.runs`, after each of them.
    Raises:
      UserError: as `train.train_and_evaluate`; or, before anything is trained or written, if a run
        differs from the plan or is further than it.
    """
    runs = plan.in_order
    _check_lengths(plan)
    finished = {planned.workdir: read_scores(planned) for planned in runs}
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
    with progress.TrainProgress(done_steps, total_steps) as bar:
        for number, planned in enumerate(waiting, start=len(runs) - len(waiting) + 1):
            logger.info("Run %d of %d: %s", number, len(runs), planned.workdir)
            part = progress.PartProgress(bar, planned.folder, done_steps)
            finished[planned.workdir] = (
                _score_ensemble(planned) if planned.members else _train_and_score(planned, part)
            )
            done_steps += planned.train_steps
            jax.clear_caches()  # Frees the compiled programs of finished runs.
            if planned in plan.runs:
                save(reported())
    return reported()


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
            needed |= {member.workdir for member, _ in planned.members}
            needed.add(pathlib.Path(planned.config.init_from))
    return waiting[::-1]


def _check_lengths(plan: Plan) -> None:
    """Refuses a plan of fewer steps than a run has: its scores would be of other steps.

    Raises:
      UserError: naming the run that is furthest.
    """
    trained = (*plan.members, *plan.runs)
    for planned in (*sorted(trained, key=_last_step, reverse=True), *plan.starts):
        step, asked = _last_step(planned), planned.config.num_steps
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


def _last_step(planned: Run) -> int:
    return max(checkpoint.list_steps(planned.workdir), default=0)


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


def _train_and_score(planned: Run, bar: progress.PartProgress) -> RunScores:
    folder = planned.workdir
    if (moved := _as_saved(planned)) != planned.settings:
        config.replace(planned.settings, moved, folder)
    started, steps_before = time.monotonic(), _last_step(planned)
    train.train_and_evaluate(planned.config, folder, bar=bar)
    last = _evaluate(planned, "latest")
    best_step = _best_step(planned)
    best = None
    if best_step is not None:
        best = last if best_step == last["step"] else _evaluate(planned, str(best_step))
    scores = RunScores(
        method=planned.method,
        value=planned.value,
        seed=planned.seed,
        workdir=planned.folder,
        last=last,
        best=best,
        evaluations=tuple(
            saved_scores.read_summaries(
                folder, planned.settings.evaluation, last_step=planned.settings.num_steps
            )
        ),
    )
    timing.save(folder, time.monotonic() - started, planned.train_steps - steps_before)
    files.write_json(folder / SCORES_FILE, dataclasses.asdict(scores))
    return scores


def _best_step(planned: Run) -> int | None:
    with checkpoint.Checkpoints(planned.workdir, read_only=True) as checkpoints:
        return checkpoints.best_step()


def _score_ensemble(planned: Run) -> RunScores:
    """Scores the mean of the members' probabilities: at their last steps, and at their best."""
    last = _evaluate(planned, "latest")
    scores = RunScores(
        method=planned.method,
        value=planned.value,
        seed=planned.seed,
        workdir=planned.folder,
        last=last,
        best=_evaluate_best_members(planned, last),
        evaluations=(_evaluate(planned, "latest", split=planned.config.evaluation.split),),
        members=_describe_members(planned),
    )
    files.write_json(planned.workdir / SCORES_FILE, dataclasses.asdict(scores))
    return scores


def _evaluate_best_members(planned: Run, last: Summary) -> Summary | None:
    steps = [_best_step(member) for member, _ in planned.members]
    if None in steps:
        return None
    are_last = steps == [member.config.num_steps for member, _ in planned.members]
    return last if are_last else _evaluate(planned, "best")


def _describe_members(planned: Run) -> dict[str, float]:
    return {member.folder: weight for member, weight in planned.members}


def _evaluate(planned: Run, checkpoint_name: str, *, split: str | None = None) -> Summary:
    """Evaluates a run, or all members of an ensemble; None is the split that is reported."""
    ensemble: dict[str, Any] = {}
    folder = planned.workdir
    if planned.members:
        members, weights = zip(*planned.members, strict=True)
        folder = members[0].workdir
        others = [str(member.workdir) for member in members[1:]]
        ensemble = {"others": others, "weights": weights}
    result = evaluator.evaluate_checkpoint(
        folder,
        planned.config,
        checkpoint_name=checkpoint_name,
        split=split or planned.reported_split,
        **ensemble,
    )
    result.save(planned.workdir)
    return result.summary


def read_scores(planned: Run) -> RunScores | None:
    """Reads the scores of a run if it was finished with this configuration.

    Raises:
      UserError: if the folder holds a run of another configuration, or damaged scores.
    """
    config.check_workdir(_as_saved(planned), planned.workdir)  # An ensemble's holds no run.
    path = planned.workdir / SCORES_FILE
    if not path.exists():
        return None
    classes.load_to_train(planned.workdir, planned.settings.data.label_set)  # Fails if changed.
    try:
        scores = RunScores.from_dict(files.from_json(path.read_text()))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}): expected the scores that a study wrote; "
            "remove that file, and the run is scored again."
        ) from error
    evaluation = planned.config.evaluation
    members = _describe_members(planned)
    asked = (planned.config.num_steps, evaluation.dataset, planned.reported_split, members)
    found = (*(scores.last[name] for name in ("step", "dataset", "split")), scores.members)
    return scores if found == asked else None


def _as_saved(planned: Run) -> RunSettings:
    """Returns a run's settings, with the start's place as the run in its folder has it.

    The place differs where a study was copied or moved with its starts.
    """
    settings, path = planned.settings, planned.workdir / config.FILE_NAME
    if not settings.start_variant or not path.exists():
        return settings
    saved = config.load(planned.workdir).init_from
    ours, theirs = (pathlib.Path(place).parts[-2:] for place in (settings.init_from, saved))
    return dataclasses.replace(settings, init_from=saved) if ours == theirs else settings
