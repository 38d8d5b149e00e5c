"""Measures every method's full-size train step, compiled for a TPU or run on this machine.

  PYTHONPATH=libtpu python -m benchmarks.methods --topology=v5e:1x1 --output=methods_v5e.json
  python -m benchmarks.methods --steps=20 --output=methods_gpu.json

With --topology nothing is run: the compiler reports what the step needs (benchmarks.tpu). With
--steps, steps of random images are run and timed on the machine's own device. Steps that are the
same program, such as those of ST and CBST, are measured once. Rows that --output holds already, of
the same versions, are kept, so that the command can be stopped and continued.
"""

import argparse
import functools
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_collections

from benchmarks import results

if TYPE_CHECKING:  # JAX must not be imported before its environment is set.
    from alp_jax.workdir.settings import RunSettings

EXPERIMENTS = ("gta5_to_cityscapes", "synthia_to_cityscapes")


class Step(NamedTuple):
    """A step to measure: the experiment, the methods whose step it is, and its settings."""

    experiment: str
    methods: tuple[str, ...]
    settings: "RunSettings"


def main(arguments: Sequence[str]) -> int:
    """Measures each step, prints a line for it, and writes all lines to --output."""
    flags = _parse(arguments)
    if flags.topology:
        from benchmarks import tpu

        tpu.look_for_no_tpu()
        measure = functools.partial(tpu.measure, topology=flags.topology)
    else:
        measure = functools.partial(_run, num_steps=flags.steps)
    rows = _read(flags.output)
    for step in list_steps(flags.experiments, flags.methods, flags.dtype):
        key = {
            "experiment": step.experiment,
            "methods": list(step.methods),
            "dtype": flags.dtype,
            "batch_size": step.settings.data.batch_size,
        }
        if any(row.items() >= key.items() for row in rows):
            continue
        try:
            rows.append(key | measure(step.settings))
        except Exception as error:  # Out of memory has no type of its own.
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            rows.append(key | {"does_not_fit": str(error).splitlines()[0]})
        print(_describe(rows[-1]), flush=True)
        if flags.output:
            results.save(flags.output, "methods", arguments, {"rows": rows})
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = results.create_parser("methods", __doc__)
    parser.add_argument("--topology", default="", help="compile for it: v5e:1x1; empty: run steps")
    parser.add_argument("--steps", type=int, default=20, help="steps to run")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--experiments", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS)
    parser.add_argument("--methods", nargs="+", help="all by default")
    return parser.parse_args(arguments)


def _read(path: pathlib.Path | None) -> list[dict[str, Any]]:
    from alp_jax.command import versions

    if path is None or not path.exists():
        return []
    content = json.loads(path.read_text())
    return content["rows"] if content["versions"] == versions.describe() else []


def list_steps(
    experiments: Sequence[str], methods: Sequence[str] | None, dtype: str
) -> Iterator[Step]:
    """Lists the different steps of the methods in each experiment."""
    from alp_jax.settings import kinds
    from configs import default

    for experiment in experiments:
        module = kinds.load_module("configs", experiment)
        found: list[tuple[RunSettings, list[str]]] = []
        for method in methods or default.list_methods():
            settings = _build(module.get_config(method), dtype)
            same = [names for other, names in found if _step_of(other) == _step_of(settings)]
            if same:
                same[0].append(method)
            else:
                found.append((settings, [method]))
        for settings, names in found:
            yield Step(experiment, tuple(names), settings)


def _build(config: ml_collections.ConfigDict, dtype: str) -> "RunSettings":
    """Builds settings; what a run would fill from its data is made up."""
    from alp_jax.data.labels import load_label_set
    from alp_jax.workdir.settings import build_settings
    from configs import default

    num_classes = load_label_set(config.data.label_set).num_classes
    with config.unlocked():
        config.model.activation_dtype = dtype
        default.set_everywhere(
            config.terms, activation_dtype=dtype, class_shares=(1 / num_classes,) * num_classes
        )
    return build_settings(config)


def _step_of(settings: "RunSettings") -> dict[str, Any]:
    """Returns the settings that a step's program depends on."""
    data = settings.data
    return {
        **{name: getattr(settings, name) for name in ("views", "terms", "updates", "teacher")},
        **{name: getattr(settings, name) for name in ("model", "optimizer")},
        "sizes": (data.source_size, data.target_size, data.batch_size, data.label_set),
        "crop": settings.rounds.crop_size,
    }


def _run(settings: "RunSettings", num_steps: int) -> dict[str, Any]:
    """Runs steps of one random batch; returns median seconds, and bytes of the device's memory."""
    import jax

    from alp_jax.run import assembly
    from benchmarks import paper_step

    setup = assembly.create_setup(settings)
    state = assembly.create_train_state(setup, jax.random.key(0))
    batch = jax.device_put(paper_step.draw_batch(settings))
    started = time.monotonic()
    step = assembly.compile_train_step(setup, state, batch, jax.random.key(1))
    compiled = time.monotonic() - started
    seconds = []
    for _ in range(num_steps + 1):
        started = time.monotonic()
        state, scalars = step(state, batch)
        jax.block_until_ready((state, scalars))
        seconds.append(time.monotonic() - started)
    device = jax.local_devices()[0]
    held = device.memory_stats() or {}
    return {
        "device": device.device_kind,
        "compile_seconds": compiled,
        "seconds": statistics.median(seconds[1:]),
        "peak_bytes": held.get("peak_bytes_in_use"),
    }


def _describe(row: dict[str, Any]) -> str:
    """Writes a row as a line; memory of a compiled step is what it holds and its temporaries."""
    name = f"{row['experiment']:22} {', '.join(row['methods']):30}"
    if "does_not_fit" in row:
        return f"{name} does not fit: {row['does_not_fit']}"
    if "seconds" in row:
        peak = row["peak_bytes"]
        memory = "" if peak is None else f" {peak / 1e9:6.2f} GB"
        return f"{name} {row['seconds']:8.4f} s{memory}  compiled in {row['compile_seconds']:.0f} s"
    memory = (row["temporary_bytes"] + row["argument_bytes"]) / 1e9
    return (
        f"{name} {memory:6.2f} GB  {row['bytes_of_memory'] / 1e9:6.1f} GB moved  "
        f"{row['flop'] / 1e12:6.2f} TFLOP  roofline {row['roofline_seconds']:.3f} s  "
        f"compiled in {row['compile_seconds']:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
