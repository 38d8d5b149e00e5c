"""Trains a segmenter, evaluates a checkpoint, predicts images, or writes a report of runs.

Train, or continue, a run; all of its files go into the workdir:

python -m alp_jax.main --config=configs/toy_cities.py:alp_gi --workdir=runs/alp

Score a checkpoint on a split, and write predictions in the format of the Cityscapes benchmark:

python -m alp_jax.main --mode=evaluate --workdir=runs/alp --checkpoint=best --split=test
python -m alp_jax.main --mode=evaluate --workdir=runs/alp --predictions=submission

Average predictions with those of the mirrored image, of other scales, or of another run:

python -m alp_jax.main --mode=evaluate --workdir=runs/alp --flip --scales=0.9,1,1.2
python -m alp_jax.main --mode=evaluate --workdir=runs/alp --ensemble=runs/agp

Predict any images; write one HTML page about several runs:

python -m alp_jax.main --mode=predict --workdir=runs/alp --input=frames --output=predictions
python -m alp_jax.main --mode=report --workdir=runs/alp --compare=runs/source_only,runs/agp

Run a step with a non-finite loss or gradient again:

python -m alp_jax.main --mode=replay --workdir=runs/alp

Exit status: 0; 1 if some images could not be predicted; 2 for wrong input, described in one
sentence; 75 if SIGTERM or SIGINT (Ctrl-C) stopped the run, after its step was finished and saved:
the same command continues. A second signal exits at once.
"""

import logging
import pathlib
import sys
import time
from typing import Any

from absl import flags

from alp_jax.command import cli, configuration
from alp_jax.errors import UserError, printable

logger = logging.getLogger(__name__)

_CONFIG = configuration.define(
    "Python file with get_config(), a colon, and its variant: configs/toy_cities.py:alp_gi; or the "
    "name of one that comes with alp_jax: toy_cities:alp_gi. --config.FIELD=VALUE overrides a "
    "field; docs/configuration.md lists all of them. evaluate: the workdir's own configuration "
    "when not given.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run: checkpoints, metrics.jsonl, evaluation/. Training continues from its "
    "latest checkpoint.",
)
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "predict", "report", "replay"],
    "train: train, or continue, a run. evaluate: score a checkpoint on a split. predict: label any "
    "images. report: one HTML page of runs. replay: run a step with a non-finite loss or gradient "
    "again.",
)
_PROFILE_STEPS = flags.DEFINE_integer(
    "profile_steps",
    0,
    "train: steps to record for TensorBoard's profiler, after ten unrecorded ones.",
    lower_bound=0,
)
_ACCEPT_CHANGED_DATA = flags.DEFINE_bool(
    "accept_changed_data",
    False,
    "train: continue although a dataset was prepared anew since the run read it; the workdir's "
    "data.json notes the change.",
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint",
    "latest",
    "evaluate, predict: the checkpoint: latest, best (highest mean IoU on the evaluation split, so "
    "chosen with target labels), or the number of a step.",
)
_SPLIT = flags.DEFINE_string(
    "split", None, "evaluate, report: the split; config.evaluation.split when not given."
)
_PREDICTIONS = flags.DEFINE_string(
    "predictions",
    None,
    "evaluate: folder for predictions, NAME.png with label ids at the labels' resolution; with "
    "Cityscapes' label sets NAME_labelIds.png, the format of its benchmark.",
)
_INPUT = flags.DEFINE_string(
    "input",
    None,
    "predict: the images: a folder, one image, a video, or a quoted pattern such as "
    "'frames/*.png'.",
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "predict: folder for the results: label_ids/, colour/, overlay/, entropy/ and, with "
    "--probabilities, probabilities/; legend.png and predictions.json beside them.",
)
_PROBABILITIES = flags.DEFINE_bool(
    "probabilities",
    False,
    "predict: also write the probabilities of all classes, NAME.npz; large files.",
)
_PROPORTIONS = flags.DEFINE_enum(
    "proportions",
    "stretch",
    ["stretch", "keep", "windows"],
    "predict: how images reach the network's size, config.data.target_size. stretch: as in "
    "training and evaluation. keep: scaled to fit inside, and mirrored to fill the rest. windows: "
    "at full resolution; windows of the network's size slide over a larger image.",
)
_MAX_MEGAPIXELS = flags.DEFINE_float(
    "max_megapixels",
    None,
    "predict: the largest image that is read, in millions of pixels; 89 when not given, since a "
    "small file can unpack to any size.",
    lower_bound=0,
)
_INTENSITY = flags.DEFINE_string(
    "intensity",
    None,
    "predict: how images of more than 8 bits become 8: MIN,MAX, range or full, as they were "
    "prepared (data_prep.image_folder --help).",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    None,
    "predict: images at a time; config.evaluation.batch_size when not given.",
    lower_bound=1,
)
_FLIP = flags.DEFINE_bool(
    "flip", False, "evaluate, predict: average with the prediction of the mirrored image."
)
_SCALES = flags.DEFINE_list(
    "scales",
    ["1"],
    "evaluate, predict: average predictions at these scales, relative to the network's size: "
    "0.9,1,1.2.",
)
_WINDOW = flags.DEFINE_list(
    "window",
    None,
    "evaluate, predict: HEIGHT,WIDTH of a window that slides over the image at the network's size, "
    "pixels; the whole image when not given.",
)
_STRIDE = flags.DEFINE_list(
    "stride",
    None,
    "evaluate, predict: ROWS,COLUMNS from one window to the next; half a window when not given.",
)
_ENSEMBLE = flags.DEFINE_list(
    "ensemble",
    [],
    "evaluate, predict: workdirs of other runs, or WORKDIR:CHECKPOINT, to average probabilities "
    "with; --workdir is the first member.",
)
_ENSEMBLE_WEIGHTS = flags.DEFINE_list(
    "ensemble_weights",
    [],
    "evaluate, predict: weights of the ensemble's members, --workdir first; equal when not given.",
)
_COMPARE = flags.DEFINE_list(
    "compare",
    [],
    "report: workdirs of other runs on the page, the baseline (source-only) first.",
)
# Flag -> the modes that read it; flags that are not listed are read by all.
_MODES = {
    "config": ("train", "evaluate"),
    "profile_steps": ("train",),
    "accept_changed_data": ("train",),
    "checkpoint": ("evaluate", "predict"),
    "split": ("evaluate", "report"),
    "predictions": ("evaluate",),
    "input": ("predict",),
    "output": ("predict",),
    "probabilities": ("predict",),
    "proportions": ("predict",),
    "max_megapixels": ("predict",),
    "intensity": ("predict",),
    "batch_size": ("predict",),
    "flip": ("evaluate", "predict"),
    "scales": ("evaluate", "predict"),
    "window": ("evaluate", "predict"),
    "stride": ("evaluate", "predict"),
    "ensemble": ("evaluate", "predict"),
    "ensemble_weights": ("evaluate", "predict"),
    "compare": ("report",),
}
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Join the other processes of this run; start each with the same command. On TPU pods, and "
    "under Slurm or MPI, this flag is enough; elsewhere give the three flags below, too.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, a free port there."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes of this run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")


def main() -> int:
    """Runs the mode that the flags select; returns the exit status."""
    if _WORKDIR.value is None:
        raise UserError("Give --workdir, the folder of the run: for example --workdir=runs/alp.")
    if _MODE.value == "train":
        cli.check_overrides()
    if _MODE.value == "train" and _CONFIG.value is None:
        raise UserError(
            "Training needs --config: for example --config=configs/toy_cities.py:alp_gi."
        )
    if _MODE.value == "predict" and not (_INPUT.value and _OUTPUT.value):
        raise UserError(
            "Predicting needs --input, images, and --output, a folder: for example "
            "--input=frames --output=predictions."
        )
    cli.check_flags_of_mode(_MODE.value, _MODES)
    inference = _parse_inference()
    # Imported here so that --help and errors in flags appear at once.
    from alp_jax.devices import processes
    from alp_jax.devices.summary import summarise_devices

    if _DISTRIBUTED.value:
        processes.join(
            coordinator=_COORDINATOR.value,
            num_processes=_NUM_PROCESSES.value,
            process_id=_PROCESS_ID.value,
        )
        if not processes.is_primary():
            logging.getLogger("alp_jax").setLevel(logging.WARNING)
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    logger.info(summarise_devices())
    match _MODE.value:
        case "train":
            return _train(workdir)
        case "evaluate":
            return _evaluate(workdir, inference)
        case "predict":
            # Prediction uses one device: the other processes have nothing to do.
            return _predict(workdir, inference) if processes.is_primary() else 0
        case "report":
            return _report(workdir)
        case _:
            return _replay(workdir)


def _parse_inference() -> dict[str, Any]:
    """Returns the flags about averaged predictions as keyword arguments of load_segmenter."""
    numbers = {
        "scales": cli.parse_numbers("scales", _SCALES.value, float),
        "window": cli.parse_numbers("window", _WINDOW.value, int),
        "stride": cli.parse_numbers("stride", _STRIDE.value, int),
    }
    weights = cli.parse_numbers("ensemble_weights", _ENSEMBLE_WEIGHTS.value, float)
    return {
        "recipe": {"flip": _FLIP.value, **numbers},
        "others": _ENSEMBLE.value,
        "weights": weights,
    }


def _train(workdir: pathlib.Path) -> int:
    """Trains, or continues, a run."""
    from alp_jax.devices import processes
    from alp_jax.evaluation import results
    from alp_jax.run import train
    from alp_jax.workdir import scores

    started = time.monotonic()
    with processes.leaving_on_error():
        summary = train.train_and_evaluate(
            _CONFIG.value,
            workdir,
            profile_steps=_PROFILE_STEPS.value,
            accept_changed_data=_ACCEPT_CHANGED_DATA.value,
        )
    if not processes.is_primary():
        return 0
    results.print_scores(summary)
    logger.info(
        "Finished in %.0f s. Scores and pictures: %s. Next: --mode=report --workdir=%s for curves "
        "and all pictures on one page, --mode=predict for other images.",
        time.monotonic() - started,
        workdir / scores.FOLDER,
        workdir,
    )
    return 0


def _evaluate(workdir: pathlib.Path, inference: dict[str, Any]) -> int:
    """Scores a checkpoint on a split."""
    from alp_jax.devices import processes
    from alp_jax.evaluation import evaluator, results
    from alp_jax.evaluation.predictor import Recipe
    from alp_jax.workdir import config

    started = time.monotonic()
    folder = _PREDICTIONS.value and pathlib.Path(_PREDICTIONS.value).expanduser()
    run_config = _CONFIG.value
    if overrides := cli.list_lone_overrides():
        run_config = config.override_evaluation(workdir, overrides)
    result = evaluator.evaluate_checkpoint(
        workdir,
        run_config,
        checkpoint_name=_CHECKPOINT.value,
        split=_SPLIT.value,
        predictions_dir=folder,
        **inference | {"recipe": Recipe(**inference["recipe"])},
    )
    if not processes.is_primary():
        return 0
    path = result.save(workdir)
    if _CHECKPOINT.value == "best":
        logger.info("This checkpoint was chosen by mean IoU, so with target labels.")
    results.print_scores(result.summary)
    logger.info(
        "Evaluated in %.0f s; scores, confusion and pictures: %s and beside it.",
        time.monotonic() - started,
        path,
    )
    if folder:
        logger.info("Predictions: %s", folder)
    return 0


def _predict(workdir: pathlib.Path, inference: dict[str, Any]) -> int:
    """Predicts images; returns cli.EXIT_INCOMPLETE if some image could not be predicted."""
    max_pixels = None
    if _MAX_MEGAPIXELS.value is not None:
        from alp_jax.data import opening

        max_pixels = opening.count_pixels(_MAX_MEGAPIXELS.value)
        cli.allow_pixels(max_pixels)
    from alp_jax.data import walk
    from alp_jax.data.intensity import parse_intensity
    from alp_jax.evaluation import folders
    from alp_jax.evaluation.predictor import Recipe
    from alp_jax.evaluation.segmenter import load_segmenter

    started, images = time.monotonic(), _INPUT.value
    intensity = parse_intensity(_INTENSITY.value)
    segmenter = load_segmenter(
        workdir,
        _CHECKPOINT.value,
        proportions=_PROPORTIONS.value,
        batch_size=_BATCH_SIZE.value,
        **inference | {"recipe": Recipe(**inference["recipe"])},
    )
    logger.info(
        "Predicting %s with step %d of %s; compiling takes seconds for a small network, minutes "
        "for a full one.",
        printable(images),
        segmenter.step,
        workdir,
    )
    result = folders.predict_to_folder(
        segmenter,
        images,
        _OUTPUT.value,
        with_probabilities=_PROBABILITIES.value,
        max_pixels=max_pixels,
        intensity=intensity,
    )
    if result.num_stretched:
        logger.info(
            "%d images have other proportions than the network's %dx%d and were stretched, as in "
            "training; --proportions=keep scales them to fit and mirrors them to fill the rest.",
            result.num_stretched,
            *segmenter.size,
        )
    for line in walk.count_passed_over(result.passed_over):
        logger.info("Not predicted, %s.", line)
    seconds = time.monotonic() - started
    logger.info(
        "Predicted %d images in %.0f s (%.3g images/s). Pictures: %s, colours: %s, label ids: %s.",
        len(result.written),
        seconds,
        len(result.written) / seconds,
        result.output / "overlay",
        result.output / folders.LEGEND,
        result.output / "label_ids",
    )
    if not result.failed:
        return 0
    print(f"{len(result.failed)} could not be predicted:", file=sys.stderr)
    for source, reason in result.failed.items():
        print(f"  {source} {reason}", file=sys.stderr)
    return cli.EXIT_INCOMPLETE


def _replay(workdir: pathlib.Path) -> int:
    """Runs a step with a non-finite loss or gradient again."""
    from alp_jax.run import train

    train.replay_step(workdir)
    return 0


def _report(workdir: pathlib.Path) -> int:
    """Writes the report into the workdir; runs are named after their folders."""
    from alp_jax.report import writing

    runs = [pathlib.Path(path).expanduser() for path in _COMPARE.value] + [workdir]
    names = [run.name for run in runs]
    named = {run.name if names.count(run.name) == 1 else str(run): run for run in runs}
    path = writing.write_report(
        named, workdir / "report", title=", ".join(named), split=_SPLIT.value
    )
    logger.info("Report: %s; its pictures are beside it.", path)
    return 0


if __name__ == "__main__":
    cli.run(main)
