"""Compares whole runs, through the command line, that the base begins and either side continues.

The base prepares the tiny dataset and trains each of `RUNS` to step 4. Both sides continue a copy
to step 8, score its test split with the predictions written, predict a folder of images, and
export. Every file is read into named arrays (`results.py`), which must have the same bits.
"""

import pathlib
import shutil

import numpy as np
from PIL import Image

from tests.same_bits import results
from tests.same_bits.comparison import compare_arrays
from tests.same_bits.sides import Side
from tests.same_bits.steps import Verdict

# Run -> overrides of the tiny configuration, in the vocabulary of commit 106e02e.
RUNS: dict[str, tuple[str, ...]] = {
    "alp_gi": ("--config.model.aux_classifier=True", "--config.model.batch_norm_mode=running"),
    "source_only": ("--config.model.batch_norm_mode=running",),
}
_FIRST_STEPS, _ALL_STEPS = 4, 8
_IMAGE_SIZES = ((32, 48), (41, 60), (21, 33))
_LABEL_SIZE = (40, 60)  # Of the exported program.

_BUILD_DATA = """\
import pathlib, sys
from tests import tiny
tiny.build(pathlib.Path(sys.argv[1]))
"""

# What the base starts its runs with: API of the base.
_START_CONFIG = """\
import pathlib
from tests import tiny

def get_config(variant):
    return tiny.get_config(pathlib.Path({data_dir!r}), variant)
"""

# What either side continues with: the run's own configuration, as the side's code reads it.
_CONTINUE_CONFIG = """\
import pathlib
try:
    from alp_jax.settings.schema import to_config
    from alp_jax.workdir import config
except ImportError:  # Commit 106e02e.
    from alp_jax import config
    to_config = lambda loaded: loaded

def get_config():
    return to_config(config.load(pathlib.Path({workdir!r})))
"""


def compare_runs(base: Side, head: Side, folder: pathlib.Path) -> list[Verdict]:
    """Makes the runs of both sides below `folder`, which is created, and compares them."""
    folder.mkdir(parents=True)
    images = folder / "images"
    _write_images(images)
    _build_data(base, folder / "datasets")
    verdicts = []
    for run in RUNS:
        started = folder / "started" / run
        _start(base, run, folder / "datasets", started)
        for side in (base, head):
            print(f"{side.name}: run {run}", flush=True)
            _continue(side, started, folder / side.name / run, images)
        verdicts += _judge(run, folder / base.name / run, folder / head.name / run)
    return verdicts


def _write_images(folder: pathlib.Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, size in enumerate(_IMAGE_SIZES):
        pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"image_{number}.png")


def _build_data(side: Side, data_dir: pathlib.Path) -> None:
    side.run("-c", _BUILD_DATA, str(data_dir), quiet=True)


def _start(side: Side, run: str, data_dir: pathlib.Path, workdir: pathlib.Path) -> None:
    """Trains the first steps of a run."""
    workdir.parent.mkdir(exist_ok=True)
    config = workdir.with_name(f"{run}.py")
    config.write_text(_START_CONFIG.format(data_dir=str(data_dir)))
    _train(side, f"{config}:{run}", workdir, _FIRST_STEPS, *RUNS[run])


def _train(side: Side, config: str, workdir: pathlib.Path, steps: int, *overrides: str) -> None:
    """Trains to a step, with a checkpoint and an evaluation every four."""
    side.run(
        *("-m", "alp_jax.main", f"--config={config}", f"--workdir={workdir}"),
        f"--config.num_steps={steps}",
        f"--config.evaluation.every_steps={_FIRST_STEPS}",
        f"--config.checkpoint.every_steps={_FIRST_STEPS}",
        *overrides,
        quiet=True,
    )


def _continue(
    side: Side, started: pathlib.Path, folder: pathlib.Path, images: pathlib.Path
) -> None:
    """Continues a copy of a run, and makes everything that is made of a run."""
    workdir = folder / "workdir"
    shutil.copytree(started, workdir)
    config = folder / "continue.py"
    config.write_text(_CONTINUE_CONFIG.format(workdir=str(workdir)))
    _train(side, str(config), workdir, _ALL_STEPS)
    main = ("-m", "alp_jax.main", f"--workdir={workdir}")
    predictions, predicted = folder / "predictions", folder / "predicted"
    side.run(*main, "--mode=evaluate", "--split=test", f"--predictions={predictions}", quiet=True)
    inputs = (f"--input={images}", f"--output={predicted}", "--probabilities")
    side.run(*main, "--mode=predict", *inputs, quiet=True)
    export = ("-m", "alp_jax.export", f"--workdir={workdir}", f"--output={folder / 'exported'}")
    side.run(*export, f"--label_size={','.join(map(str, _LABEL_SIZE))}", quiet=True)


def _judge(run: str, base: pathlib.Path, head: pathlib.Path) -> list[Verdict]:
    """Compares the results of a run, by what made them."""
    verdicts = []
    for kind, read in results.KINDS.items():
        comparison = compare_arrays(read(base), read(head))
        name = f"{run}: {kind}"
        verdicts.append(Verdict(name, comparison.is_same, comparison.describe()))
    return verdicts
