"""Trains and scores the unfinished runs of a plan, and keeps the finished ones.

Synopsis:

  study = run(plan, about, save)   # calls save(study) after every run
"""

import dataclasses
import logging
from collections.abc import Callable

import jax

from alp_jax.command import progress
from alp_jax.errors import UserError, shorten
from alp_jax.evaluation import evaluator
from alp_jax.run import train
from alp_jax.study.plan import Plan, Run
from alp_jax.study.scores import FILE_NAME, STUDY, About, RunScores, Study, Summary, load
from alp_jax.workdir import checkpoint, classes, config, files, outputs
from alp_jax.workdir import scores as saved_scores

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
      UserError: as `train.train_and_evaluate`; or, before anything is trained or written, if a run
        differs from the plan or is further than it, or if the tables would lose a run.
    """
    runs = (*plan.starts, *plan.runs)
    _check_lengths(plan)
    _check_earlier_study(plan)
    finished = {planned.workdir: _read_scores(planned) for planned in runs}
    waiting = [planned for planned in runs if finished[planned.workdir] is None]
    total_steps = sum(planned.config.num_steps for planned in runs)
    done_steps = total_steps - sum(planned.config.num_steps for planned in waiting)
    if len(waiting) < len(runs):
        logger.info("%d of %d runs are finished already.", len(runs) - len(waiting), len(runs))

    def study() -> Study:
        scores = (finished[planned.workdir] for planned in plan.runs)
        return Study(about, tuple(found for found in scores if found is not None))

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
        for planned in waiting:
            number = len(runs) - sum(found is None for found in finished.values()) + 1
            logger.info("Run %d of %d: %s", number, len(runs), planned.workdir)
            part = progress.PartProgress(bar, planned.folder, done_steps)
            finished[planned.workdir] = _train_and_score(planned, part)
            done_steps += planned.config.num_steps
            jax.clear_caches()  # Frees the compiled programs of finished runs.
            if planned in plan.runs:
                save(study())
    save(study())
    return study()


def _check_lengths(plan: Plan) -> None:
    """Refuses a plan of fewer steps than a run has: its scores would be of other steps.

    Raises:
      UserError: naming the run that is furthest.
    """
    for planned in (*sorted(plan.runs, key=_last_step, reverse=True), *plan.starts):
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
    train.train_and_evaluate(planned.config, folder, bar=bar)
    last = _evaluate(planned, "latest")
    with checkpoint.Checkpoints(folder, read_only=True) as checkpoints:
        best_step = checkpoints.best_step()
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
    files.write_json(folder / SCORES_FILE, dataclasses.asdict(scores))
    return scores


def _evaluate(planned: Run, checkpoint_name: str) -> Summary:
    result = evaluator.evaluate_checkpoint(
        planned.workdir,
        planned.config,
        checkpoint_name=checkpoint_name,
        split=planned.reported_split,
    )
    result.save(planned.workdir)
    return result.summary


def _read_scores(planned: Run) -> RunScores | None:
    """Reads the scores of a run if it was finished with this configuration.

    Raises:
      UserError: if the folder holds a run of another configuration, or damaged scores.
    """
    config.check_workdir(planned.settings, planned.workdir)
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
    asked = (planned.config.num_steps, planned.config.evaluation.dataset, planned.reported_split)
    found = (scores.last["step"], scores.last["dataset"], scores.last["split"])
    return scores if found == asked else None
