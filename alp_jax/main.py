"""Trains a segmenter, evaluates a checkpoint, writes a report of runs, or replays a bad step.

python -m alp_jax.main --config=configs/toy_cities.py:alp_gi --workdir=runs/alp
python -m alp_jax.main --mode=evaluate --workdir=runs/alp --checkpoint=best --split=test
python -m alp_jax.main --mode=evaluate --workdir=runs/alp --predictions=submission
python -m alp_jax.main --mode=report --workdir=runs/alp --compare=runs/source_only,runs/agp
python -m alp_jax.main --mode=replay --workdir=runs/alp

Exit status: 0; 2 for wrong input, with one sentence; 75 when SIGTERM or SIGINT (Ctrl-C) stopped it,
after the step was finished and saved: the same command continues. A second signal exits at once.
"""

import logging
import pathlib
import time

from absl import flags
from ml_collections import config_flags

from alp_jax import cli
from alp_jax.errors import UserError

logger = logging.getLogger(__name__)

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Python file with get_config(), and after a colon its variant: "
    "configs/toy_cities.py:alp_gi. Override a field with --config.FIELD=VALUE. To evaluate, "
    "the workdir's own configuration is used when this is not given.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run. Training resumes from its latest checkpoint.",
)
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "report", "replay"],
    "What to do; replay runs the step again that gave a loss or gradient that is not finite.",
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "latest",
    "Checkpoint to evaluate: latest, best (chosen by mean IoU on the evaluation split, so with "
    "target labels), or the number of a step.",
)
_SPLIT = flags.DEFINE_string(
    "split", None, "Split to evaluate or report; that of config.evaluation when not given."
)
_PREDICTIONS = flags.DEFINE_string(
    "predictions",
    None,
    "Folder to write predictions to while evaluating: NAME_labelIds.png with Cityscapes label ids "
    "at the labels' resolution, the format of its benchmark.",
)
_COMPARE = flags.DEFINE_list(
    "compare",
    [],
    "Workdirs of other runs in the report, the baseline (source-only) first.",
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Join the other processes of this run: each is started with the same command. On TPU pods, and "
    "under Slurm or MPI, that is all; elsewhere give the three flags below, too.",
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, free there.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of this run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


def main() -> None:
    """Runs the mode that the flags select."""
    if _WORKDIR.value is None:
        raise UserError("Give --workdir, the folder of the run: for example --workdir=runs/alp.")
    if _MODE.value == "train" and _CONFIG.value is None:
        raise UserError(
            "Training needs --config: for example --config=configs/toy_cities.py:alp_gi."
        )
    # Imported here so that --help and wrong flags answer at once.
    import jax

    from alp_jax import evaluate, processes, progress

    if _DISTRIBUTED.value:
        processes.join(
            coordinator=_COORDINATOR.value,
            num_processes=_NUM_PROCESSES.value,
            process_id=_PROCESS_ID.value,
        )
        if not processes.is_primary():
            logging.getLogger("alp_jax").setLevel(logging.WARNING)
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    logger.info("JAX %s on %s.", jax.__version__, ", ".join(str(d) for d in jax.local_devices()))
    started = time.monotonic()
    if _MODE.value == "evaluate":
        folder = _PREDICTIONS.value and pathlib.Path(_PREDICTIONS.value).expanduser()
        result = evaluate.evaluate_checkpoint(
            workdir,
            _CONFIG.value,
            checkpoint_name=_CHECKPOINT.value,
            split=_SPLIT.value,
            predictions_dir=folder,
        )
        if not processes.is_primary():
            return
        path = result.save(workdir)
        if _CHECKPOINT.value == "best":
            logger.info("This checkpoint was chosen by mean IoU, so with target labels.")
        progress.print_scores(result.summary)
        logger.info(
            "Evaluated in %.0f s; scores, confusion and pictures: %s and beside it.",
            time.monotonic() - started,
            path,
        )
        if folder:
            logger.info("Predictions: %s", folder)
        return
    if _MODE.value == "report":
        _report(workdir)
        return
    from alp_jax import train

    if _MODE.value == "replay":
        train.replay_step(workdir)
        return
    with processes.leaving_on_error():
        summary = train.train_and_evaluate(_CONFIG.value, workdir)
    if not processes.is_primary():
        return
    progress.print_scores(summary)
    logger.info(
        "Finished in %.0f s. Scores and pictures: %s; curves: tensorboard --logdir=%s",
        time.monotonic() - started,
        workdir / evaluate.FOLDER,
        workdir,
    )


def _report(workdir: pathlib.Path) -> None:
    """Writes the page into the workdir; runs are called by their folders."""
    from alp_jax.report import writing

    runs = [pathlib.Path(path).expanduser() for path in _COMPARE.value] + [workdir]
    names = [run.name for run in runs]
    named = {run.name if names.count(run.name) == 1 else str(run): run for run in runs}
    path = writing.write_report(
        named, workdir / "report", title=", ".join(named), split=_SPLIT.value
    )
    logger.info("Report: %s; its pictures are beside it.", path)


if __name__ == "__main__":
    cli.run(main)
