"""Trains and scores methods over seeds, and writes the paper's tables and figures.

python -m alp_jax.study --config=configs/toy_cities.py --workdir=runs/study --seeds=5
python -m alp_jax.study --config=configs/toy_cities.py --workdir=runs/lambda \\
    --methods=agp_gi,alp_gi --sweep=adversarial.weight:0.001,0.003,0.01,0.03,0.1
python -m alp_jax.study --experiment=methods --workdir=runs/methods
python -m alp_jax.study --mode=report --workdir=runs/study
python -m alp_jax.study --mode=compare --workdir=runs/compared --studies=runs/study,runs/other

Tables 3 and 4 of Cicek et al., ACCV 2020, and Figure 8a with --sweep; --mode=report adds Figures 4
to 7. An experiment is a file that lists many methods: each first chooses its weights from as many
candidates as any other, and the table is in the layout of Tables 1 and 2. The same command
continues a study: finished runs are not repeated, interrupted ones continue from their checkpoints.
More methods, seeds, values or steps extend it; a command whose tables would lose runs, or that asks
for fewer steps than runs have, is refused. The exit status is as for alp_jax.main.
"""

import logging
import pathlib
import shlex
import sys
import time

from absl import flags
from ml_collections import config_flags

from alp_jax.command import cli, configuration
from alp_jax.errors import UserError

logger = logging.getLogger(__name__)

_CONFIG = configuration.define(
    "Python file with get_config(VARIANT), such as configs/toy_cities.py; the variants are taken "
    "from --methods. --config.FIELD=VALUE overrides a field of every method that has it. The run "
    "that methods start from (a warm-up) takes only the flags about data, evaluation, network and "
    "size of crops, so --config.num_steps does not change its length: for another length give a "
    "copy of the file that sets it.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the study: tables, figures and runs.")
_MODE = flags.DEFINE_enum(
    "mode",
    "run",
    ["run", "report", "compare"],
    "run: train and score unfinished runs, and write tables; report: write confusion, entropy, "
    "pictures, curves and one HTML page of finished runs; compare: write how differences between "
    "methods change from the first of --studies to the others.",
)
_METHODS = flags.DEFINE_list(
    "methods",
    ["source_only", "ap_ci", "agp_gi", "alp_gi"],
    "Variants of the configuration, in the order of the tables, the baseline first.",
)
_SEEDS = flags.DEFINE_integer("seeds", 5, "Number of seeds, from 0.", lower_bound=1)
_SWEEP = flags.DEFINE_string(
    "sweep",
    None,
    "FIELD:VALUE,VALUE,...: a field to vary, such as patch_size:32,48,64 or "
    "adversarial.weight:0.001,0.01. A method that lacks it is trained once for each seed.",
)
_EXPERIMENT = flags.DEFINE_string(
    "experiment",
    None,
    "Python file with EXPERIMENT, or the name of one in configs/experiments: it lists the methods, "
    "what each chooses from, and the seeds, in place of --config, --methods, --seeds and --sweep.",
)
_STARTS = flags.DEFINE_string(
    "starts",
    None,
    "Folder of the runs that methods start from; several studies may share it. Default: "
    "WORKDIR/starts.",
)
_JOBS = flags.DEFINE_integer(
    "jobs",
    1,
    "Runs to train at the same time, each with its share of the cores: a small network is hardly "
    "faster on two cores than on one.",
    lower_bound=1,
)
_STUDIES = flags.DEFINE_list(
    "studies", [], "With --mode=compare: folders of studies; all are compared with the first."
)
# Flag -> the modes that read it; flags that are not listed are read by all.
_MODES = {
    **dict.fromkeys(("config", "methods", "seeds", "sweep", "starts", "experiment"), ("run",)),
    "jobs": ("run",),
    "studies": ("compare",),
}


def main() -> None:
    """Runs the mode that the flags select."""
    if not _WORKDIR.value:
        raise UserError(
            "Give --workdir, the folder of the study: for example --workdir=runs/study."
        )
    cli.check_flags_of_mode(_MODE.value, _MODES)
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    run = _run if _EXPERIMENT.value is None else _run_experiment
    {"run": run, "report": _report, "compare": _compare}[_MODE.value](workdir)


def _run(workdir: pathlib.Path) -> None:
    cli.check_overrides()
    if _CONFIG.value is None:
        raise UserError("A study needs --config: for example --config=configs/toy_cities.py.")
    config_path = config_flags.get_config_filename(flags.FLAGS["config"])
    if ":" in config_path:
        path, _, variant = config_path.partition(":")
        raise UserError(
            f"A study takes the variants from --methods: give --config={path} --methods={variant}."
        )
    # Imported here so that --help and wrong flags answer at once.
    from alp_jax.devices.summary import summarise_devices
    from alp_jax.settings.compare import as_flags
    from alp_jax.study import jobs, outputs, plan, runner, scores
    from alp_jax.workdir import locks
    from alp_jax.workdir import outputs as workdir_outputs

    started = time.monotonic()
    given = config_flags.get_override_values(flags.FLAGS["config"])
    overrides = as_flags(given)
    planned = plan.create_plan(
        workdir,
        config_path,
        overrides,
        methods=_METHODS.value,
        num_seeds=_SEEDS.value,
        sweep=_SWEEP.value,
        starts_dir=_STARTS.value and pathlib.Path(_STARTS.value).expanduser(),
    )
    logger.info(summarise_devices())
    workdir_outputs.check(workdir, scores.STUDY)
    about = outputs.describe(planned, config_path, overrides, _command())
    jobs.check(_JOBS.value)
    with locks.hold(workdir):
        study = runner.run(
            planned, about, save=lambda found: outputs.save(found, workdir), jobs=_JOBS.value
        )
    outputs.print_scores(study)
    logger.info(
        "Finished in %.0f s. Tables: %s and files beside it; for pictures give --mode=report.",
        time.monotonic() - started,
        workdir / "study.md",
    )


def _run_experiment(workdir: pathlib.Path) -> None:
    given = [name for name in ("config", "methods", "seeds", "sweep") if flags.FLAGS[name].present]
    if given:
        raise UserError(
            f"--{given[0]} is given with --experiment, whose file says it: change a copy of that "
            "file, or leave one of both out."
        )
    from alp_jax.devices.summary import summarise_devices
    from alp_jax.study import experiment, jobs, outputs, scores, tuning
    from alp_jax.workdir import locks
    from alp_jax.workdir import outputs as workdir_outputs

    started = time.monotonic()
    starts = _STARTS.value and pathlib.Path(_STARTS.value).expanduser()
    loaded = experiment.load(_EXPERIMENT.value)
    jobs.check(_JOBS.value)
    tuner = tuning.Tuner(loaded, workdir, starts, jobs=_JOBS.value)
    logger.info(summarise_devices())
    print(tuner.describe(_EXPERIMENT.value))
    workdir_outputs.check(workdir, scores.STUDY)
    with locks.hold(workdir):
        study = outputs.run_experiment(tuner, _command())
    outputs.print_scores(study)
    logger.info(
        "Finished in %.0f s. Tables and picture: %s and files beside it; for pages of single runs "
        "give --mode=report.",
        time.monotonic() - started,
        workdir / "methods.md",
    )


def _command() -> str:
    return f"python -m alp_jax.study {shlex.join(sys.argv[1:])}"


def _report(workdir: pathlib.Path) -> None:
    from alp_jax.study import outputs

    started = time.monotonic()
    path = outputs.write_report(workdir)
    logger.info("Finished in %.0f s. Report: %s", time.monotonic() - started, path)


def _compare(workdir: pathlib.Path) -> None:
    from alp_jax.study import comparison

    folders = [pathlib.Path(folder).expanduser() for folder in _STUDIES.value]
    path = comparison.save(comparison.compare_studies(folders), workdir, _command())
    print(path.read_text())
    logger.info("Tables: %s; plot beside it.", path)


if __name__ == "__main__":
    cli.run(main)
