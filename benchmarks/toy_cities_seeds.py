"""The README's table: methods on the built-in cities, over seeds, on the target's test split.

  python benchmarks/toy_cities_seeds.py --seeds=3

Each seed has a warm-up of its own, from which all its methods start; scores are those of the last
step. Finished runs are not repeated. About five minutes a seed on two cores.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
from absl import app, flags

_SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds.")
_FOLDER = flags.DEFINE_string("folder", "runs/seeds", "Where the runs go.")

RUNNING = "--config.model.batch_norm_mode=running"
# Row of the table: (variant, overrides).
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "source-only": ("source_only", ()),
    "AP-CI": ("ap_ci", ()),
    "AGP-GI, lambda 0.01": ("agp_gi", ()),
    "AGP-GI, lambda 0.003": ("agp_gi", ("--config.objective.adversarial_weight=0.003",)),
    "ALP-GI, lambda 0.01": ("alp_gi", ()),
    "ALP-GI, lambda 0.003": ("alp_gi", ("--config.objective.adversarial_weight=0.003",)),
    "running statistics, lambda 0": (
        "alp_gi",
        (RUNNING, "--config.objective.adversarial_weight=0.0"),
    ),
    "running statistics, ALP-GI, lambda 0.01": ("alp_gi", (RUNNING,)),
}


def run_main(*arguments: str) -> None:
    """Runs the command, whose log lines go to stderr."""
    subprocess.run(
        [sys.executable, "-m", "alp_jax.main", *arguments], check=True, stdout=subprocess.DEVNULL
    )


def score(variant: str, overrides: tuple[str, ...], name: str, seed: int) -> float:
    """Trains one run and returns its mean IoU on the test split, in percent."""
    workdir = pathlib.Path(_FOLDER.value) / f"seed_{seed}"
    run = workdir / name.replace(" ", "_").replace(",", "")
    result = run / "evaluation" / "step_500_test.json"
    if not result.exists():
        config = "--config=configs/toy_cities.py"
        seed_flag = f"--config.seed={seed}"
        warmup = workdir / "warmup"
        if not (warmup / "evaluation" / "step_1000.json").exists():
            run_main(f"{config}:warmup", f"--workdir={warmup}", seed_flag)
        start = f"--config.init_from={warmup}"
        run_main(f"{config}:{variant}", f"--workdir={run}", seed_flag, start, *overrides)
        run_main("--mode=evaluate", f"--workdir={run}", "--split=test")
    return 100 * float(json.loads(result.read_text())["mean_iou"])


def main(_: list[str]) -> None:
    """Prints the table in Markdown."""
    scores = {
        name: np.array([score(*row, name, seed) for seed in range(_SEEDS.value)])
        for name, row in ROWS.items()
    }
    base = scores["source-only"]
    print(f"| method | mean IoU %, {_SEEDS.value} seeds | above source-only |\n| --- | --- | --- |")
    for name, values in scores.items():
        gain = values - base
        print(
            f"| {name} | {values.mean():.1f} ± {values.std(ddof=1):.1f} | "
            f"{gain.mean():+.1f} ± {gain.std(ddof=1):.1f} |"
        )


if __name__ == "__main__":
    app.run(main)
