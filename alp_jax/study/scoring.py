"""Trains and scores one run of a study, or scores an ensemble, and reads the scores again.

Synopsis:

  scores = train_and_score(planned)       # writes scores.json
  scores = read_scores(planned)           # None: not finished
"""

import dataclasses
import logging
import pathlib
import time
from collections.abc import Iterable
from typing import Any

import jax

from alp_jax.command import progress
from alp_jax.errors import Diverged, UserError
from alp_jax.evaluation import evaluator
from alp_jax.run import train
from alp_jax.study import timing
from alp_jax.study.runs import Run
from alp_jax.study.scores import RunScores, Summary
from alp_jax.workdir import checkpoint, classes, config, files
from alp_jax.workdir import scores as saved_scores
from alp_jax.workdir.settings import RunSettings

logger = logging.getLogger(__name__)

# File in the workdir of a run; it is written last, so it marks the run as finished.
SCORES_FILE = "scores.json"


def last_step(planned: Run) -> int:
    """Returns the step of a run's last checkpoint; 0 without any."""
    return max(checkpoint.list_steps(planned.workdir), default=0)


def train_and_score(planned: Run, bar: progress.PartProgress | None = None) -> RunScores:
    """Trains and scores a run, or scores an ensemble.

    Args:
      planned: the run.
      bar: the run's part of a display; None shows nothing.
    """
    if planned.members:
        scores = _score_ensemble(planned)
    else:
        scores = _train_and_score(planned, bar or progress.NoProgress())
    jax.clear_caches()  # Frees the compiled programs of finished runs.
    return scores


def _train_and_score(planned: Run, bar: progress.PartProgress) -> RunScores:
    folder = planned.workdir
    if (moved := _as_saved(planned)) != planned.settings:
        config.replace(planned.settings, moved, folder)
    started, steps_before = time.monotonic(), last_step(planned)
    try:
        train.train_and_evaluate(planned.config, folder, bar=bar)
    except Diverged as error:
        if not planned.may_diverge:
            raise
        return _save_diverged(planned, str(error))
    last = _evaluate(planned, "latest")
    best_step = _best_step(planned)
    best = None
    if best_step is not None:
        best = last if best_step == last["step"] else _evaluate(planned, str(best_step))
    evaluations = saved_scores.read_summaries(
        folder, planned.settings.evaluation, last_step=planned.settings.num_steps
    )
    timing.save(folder, time.monotonic() - started, planned.train_steps - steps_before)
    return _save(planned, last, best, evaluations)


def _save(
    planned: Run,
    last: Summary,
    best: Summary | None = None,
    evaluations: Iterable[Summary] = (),
    **others: Any,
) -> RunScores:
    """Writes the scores of a run; `others` are further fields of RunScores."""
    scores = RunScores(
        method=planned.method,
        value=planned.value,
        seed=planned.seed,
        workdir=planned.folder,
        last=last,
        best=best,
        evaluations=tuple(evaluations),
        **others,
    )
    files.write_json(planned.workdir / SCORES_FILE, dataclasses.asdict(scores))
    return scores


def _save_diverged(planned: Run, error: str) -> RunScores:
    """Saves that a run diverged, so that it is not trained again."""
    logger.warning("%s diverged, and is not chosen: %s", planned.workdir, error)
    last = {
        "step": planned.settings.num_steps,
        "dataset": planned.settings.evaluation.dataset,
        "split": planned.reported_split,
    }
    return _save(planned, last, diverged=error)


def _best_step(planned: Run) -> int | None:
    with checkpoint.Checkpoints(planned.workdir, read_only=True) as checkpoints:
        return checkpoints.best_step()


def _score_ensemble(planned: Run) -> RunScores:
    """Scores the mean of the members' probabilities: at their last steps, and at their best."""
    last = _evaluate(planned, "latest")
    best = _evaluate_best_members(planned, last)
    evaluation = _evaluate(planned, "latest", split=planned.config.evaluation.split)
    return _save(planned, last, best, [evaluation], members=_describe_members(planned))


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
