"""Measures the seconds from the command to the first train step of `make demo`, by phase.

  python -m benchmarks.startup --data_dir=datasets

Runs the command of the demo's first run (configs/toy_cities.py:warmup) in a separate process, first
with an empty compilation cache (cold), then with the cache that the first start filled (warm). It
needs the data that `make demo` renders.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import results

ROOT = pathlib.Path(__file__).parents[1]
PHASES = {
    "imports": "Python and imports",
    "datasets": "open datasets",
    "state": "create the state",
    "train_step": "trace and compile the step",
    "evaluation": "evaluate the start",
    "first_step": "first step",
    "other": "everything else",
}
# Durations that JAX reports, summed over all programs.
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling or loading",
}


def main(arguments: Sequence[str]) -> int:
    """Measures and prints the phases; writes them to --output as JSON."""
    flags = _parse(arguments)
    if flags.child_since:
        return _child(flags.data_dir, flags.child_since)
    rows: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(flags.repeats):
        with tempfile.TemporaryDirectory(prefix="startup") as cache_dir:
            for kind, row in rows.items():
                row.append(spawn(flags.data_dir, cache_dir))
                print(f"{kind}: {row[-1]['total']:.1f} s", file=sys.stderr)
    medians = {
        kind: {name: float(np.median([one[name] for one in row])) for name in row[0]}
        for kind, row in rows.items()
    }
    _print_table(medians)
    if flags.output:
        content = {"processor": results.processor(), "seconds": rows, "median_seconds": medians}
        results.save(flags.output, "startup", arguments, content)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = results.create_parser("startup", __doc__)
    parser.add_argument("--data_dir", default="datasets", help="folder of the prepared datasets")
    parser.add_argument("--repeats", type=int, default=3, help="number of cold and of warm starts")
    parser.add_argument("--child_since", type=float, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _print_table(medians: dict[str, dict[str, float]]) -> None:
    print(f"{'seconds':28} {'cold':>7} {'warm':>7}")
    names = PHASES | {"total": "command to first step"}
    names |= {name: f"  of all, JAX: {name}" for name in EVENTS.values()}
    for key, name in names.items():
        print(f"{name:36} {medians['cold'][key]:7.2f} {medians['warm'][key]:7.2f}")


def spawn(data_dir: str, cache_dir: str) -> dict[str, float]:
    """Starts the command in a process of its own; returns the seconds of each phase."""
    command = [sys.executable, "-m", "benchmarks.startup", f"--data_dir={data_dir}"]
    result = subprocess.run(
        [*command, f"--child_since={time.time()}"],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache_dir},
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


class _FirstStepError(Exception):
    """Raised after the first step, to end training."""


def _child(data_dir: str, since: float) -> int:
    """Trains like `alp_jax.main` until the first step has ended, and prints the phases as JSON."""
    from alp_jax.command import cli, configuration

    cli.set_environment()
    config = configuration.read_config(
        "configs/toy_cities.py", "warmup", [f"--config.data.data_dir={data_dir}"]
    )
    import jax

    from alp_jax.data import pipeline
    from alp_jax.evaluation import evaluator
    from alp_jax.run import assembly, train

    seconds = dict.fromkeys(PHASES, 0.0) | {"imports": time.time() - since}
    seconds |= dict.fromkeys(EVENTS.values(), 0.0)

    def count_event(event: str, duration: float, **_: Any) -> None:
        if event in EVENTS:
            seconds[EVENTS[event]] += duration

    def timed(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.time()
            result = jax.block_until_ready(function(*args, **kwargs))
            seconds[phase] += time.time() - started
            return result

        return call

    def compile_train_step(*args: Any) -> Callable[..., None]:
        train_fn = timed("first_step", timed("train_step", compiles)(*args))

        def step(*args: Any) -> None:
            train_fn(*args)
            raise _FirstStepError

        return step

    jax.monitoring.register_event_duration_secs_listener(count_event)
    compiles = assembly.compile_train_step
    assembly.compile_train_step = compile_train_step
    assembly.create_train_state = timed("state", assembly.create_train_state)
    pipeline.create_train_batches = timed("datasets", pipeline.create_train_batches)
    pipeline.create_eval_batches = timed("datasets", pipeline.create_eval_batches)
    evaluator.Evaluator.evaluate = timed("evaluation", evaluator.Evaluator.evaluate)  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory(prefix="startup") as folder:
        try:
            train.train_and_evaluate(config, pathlib.Path(folder) / "run")
        except _FirstStepError:
            seconds["total"] = time.time() - since
    seconds["other"] = seconds["total"] - sum(seconds[phase] for phase in PHASES)
    print(json.dumps(seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
