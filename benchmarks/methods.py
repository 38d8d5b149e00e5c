"""Measures every method's full-size train step, compiled for a TPU or run on this machine.

  PYTHONPATH=libtpu python -m benchmarks.methods --topology=v5e:1x1 --output=methods_v5e.json
  python -m benchmarks.methods --steps=20 --jobs=8 --written_out --output=methods_gpu.json

With --topology nothing is run: the compiler reports what the step needs (benchmarks.tpu). With
--steps, steps of random images are run and timed on the machine's own device. With --jobs, several
steps are compiled at the same time, each in a process; then their steps are timed in turn. Steps
that are the same program, such as those of ST and CBST, are measured once. Rows that --output holds
already, of the same versions, are kept, so that the command can be stopped and continued.
"""

import argparse
import dataclasses
import functools
import json
import multiprocessing
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import ml_collections

from benchmarks import results

if TYPE_CHECKING:  # JAX must not be imported before its environment is set.
    from alp_jax.workdir.settings import RunSettings

_COMPILED: dict[str, Any] = {}
EXPERIMENTS = ("gta5_to_cityscapes", "synthia_to_cityscapes")


# Compiles a step; returns a function that measures it.
Prepare = Callable[["RunSettings"], Callable[[], dict[str, Any]]]


class Step(NamedTuple):
    """A step to measure: the experiment, the methods whose step it is, and its settings."""

    experiment: str
    methods: tuple[str, ...]
    settings: "RunSettings"


def main(arguments: Sequence[str]) -> int:
    """Measures each step, prints a line for it, and writes all lines to --output."""
    flags = parse(arguments)
    if flags.topology:
        from benchmarks import tpu

        tpu.look_for_no_tpu()
        prepare: Prepare = functools.partial(_compile_for_tpu, topology=flags.topology)
    else:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # Processes share the memory.
        prepare = functools.partial(_compile, num_steps=flags.steps)
    rows = _read(flags.output)
    waiting: list[tuple[dict[str, Any], RunSettings]] = []
    for step in list_steps(flags.experiments, flags.methods, flags.dtype):
        key = {
            "experiment": step.experiment,
            "methods": list(step.methods),
            "dtype": flags.dtype,
            "batch_size": step.settings.data.batch_size,
            "written_out": flags.written_out,
        }
        if not any(row.items() >= key.items() for row in rows):
            waiting.append((key, _write_out(step.settings) if flags.written_out else step.settings))
    for key, found in _measure_all(prepare, waiting, flags.jobs):
        rows.append(key | found)
        print(_describe(rows[-1]), flush=True)
        if flags.output:
            results.save(flags.output, "methods", arguments, {"rows": rows})
    return 0


def _measure_all(
    prepare: Prepare, waiting: Sequence[tuple[dict[str, Any], "RunSettings"]], jobs: int
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Measures steps, `jobs` of them at a time; yields each key with what was found.

    Args:
      prepare: compiles a step and returns what measures it.
      waiting: (key, settings) of each step.
      jobs: number of processes; 1 is this one.
    """
    if jobs == 1:
        for key, settings in waiting:
            (*_, found) = _measure(prepare, settings)
            yield key, found
        return
    alone = []
    for first in range(0, len(waiting), jobs):
        group = waiting[first : first + jobs]
        for (key, settings), found in zip(group, _measure_group(prepare, group), strict=True):
            if found is None or "does_not_fit" in found:
                alone.append((key, settings))
            else:
                yield key, found
    for key, settings in alone:  # Now with all of the memory.
        (found,) = _measure_group(prepare, [(key, settings)])
        if found is None:
            raise RuntimeError(f"The process that measured {key} died.")
        yield key, found


def _measure_group(
    prepare: Prepare, group: Sequence[tuple[dict[str, Any], "RunSettings"]]
) -> Iterator[dict[str, Any] | None]:
    """Measures steps, each in a process of its own; yields None for one that died."""
    context = multiprocessing.get_context("spawn")
    ends = [context.Pipe() for _ in group]
    for (_, settings), (_, theirs) in zip(group, ends, strict=True):
        context.Process(target=_serve, args=(theirs, prepare, settings), daemon=True).start()
        theirs.close()
    early = [_receive(ours) for ours, _ in ends]  # Now nothing compiles any more.
    for (ours, _), found in zip(ends, early, strict=True):
        if found == _COMPILED:
            ours.send("measure")
            found = _receive(ours)
        yield found


def _receive(connection: Any) -> dict[str, Any] | None:
    try:
        return connection.recv()
    except EOFError:
        return None


def _serve(connection: Any, prepare: Prepare, settings: "RunSettings") -> None:
    """Measures a step in a process of its own, when the others have compiled theirs."""
    for found in _measure(prepare, settings):
        connection.send(found)
        if found == _COMPILED:
            connection.recv()


def _measure(prepare: Prepare, settings: "RunSettings") -> Iterator[dict[str, Any]]:
    """Yields _COMPILED, then what was found; that at once if the step does not fit."""
    try:
        measure = prepare(settings)
        yield _COMPILED
        yield measure()
    except Exception as error:  # Out of memory has no type of its own.
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        yield {"does_not_fit": str(error).splitlines()[0]}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses the flags."""
    parser = results.create_parser("methods", __doc__)
    parser.add_argument("--topology", default="", help="compile for it: v5e:1x1; empty: run steps")
    parser.add_argument("--steps", type=int, default=20, help="steps to run")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--jobs", type=int, default=1, help="steps that are compiled together")
    parser.add_argument(
        "--written_out", action="store_true", help="write the blocks out, instead of a loop"
    )
    parser.add_argument("--experiments", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS)
    parser.add_argument("--methods", nargs="+", help="all by default")
    return parser.parse_args(arguments)


def _read(path: pathlib.Path | None) -> list[dict[str, Any]]:
    from alp_jax.command import versions

    if path is None or not path.exists():
        return []
    content = json.loads(path.read_text())
    return content["rows"] if content["versions"] == versions.describe() else []


def _write_out(settings: "RunSettings") -> "RunSettings":
    backbone = dataclasses.replace(settings.model.backbone, scan_blocks=False)
    model = dataclasses.replace(settings.model, backbone=backbone)
    return dataclasses.replace(settings, model=model)


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


def _compile_for_tpu(settings: "RunSettings", topology: str) -> Callable[[], dict[str, Any]]:
    from benchmarks import tpu

    found = tpu.measure(settings, topology)
    return lambda: found


def _compile(settings: "RunSettings", num_steps: int) -> Callable[[], dict[str, Any]]:
    """Compiles a step for this machine; the function returned runs steps of one random batch."""
    import jax

    from alp_jax.run import assembly
    from benchmarks import paper_step

    state = jax.device_put(paper_step.draw_state(settings))
    batch = jax.device_put(paper_step.draw_batch(settings))
    key = jax.random.key(1)
    step, _ = paper_step.describe(settings)
    started = time.monotonic()
    options = assembly.COMPILER_OPTIONS.get(jax.default_backend())
    program = step.lower(state, batch, key).compile(options)
    compiled = time.monotonic() - started

    def advance() -> None:
        nonlocal state
        state, scalars = program(state, batch, key)
        jax.block_until_ready((state, scalars))

    def measure() -> dict[str, Any]:
        seconds = results.time_calls(advance, num_steps)
        memory, device = program.memory_analysis(), jax.local_devices()[0]
        return {
            "device": device.device_kind,
            "compile_seconds": compiled,
            "seconds": statistics.median(seconds),
            "least_seconds": min(seconds),
            "temporary_bytes": memory.temp_size_in_bytes,
            "argument_bytes": memory.argument_size_in_bytes,
            "peak_bytes": (device.memory_stats() or {}).get("peak_bytes_in_use"),
        }

    return measure


def count_bytes(row: Mapping[str, Any]) -> int:
    """Counts the bytes of memory of a compiled step: what it holds, and its temporaries."""
    return row["argument_bytes"] + row["temporary_bytes"]


def _describe(row: Mapping[str, Any]) -> str:
    """Writes a row as a line."""
    name = f"{row['experiment']:22} {', '.join(row['methods']):30}"
    if "does_not_fit" in row:
        return f"{name} does not fit: {row['does_not_fit']}"
    memory = count_bytes(row) / 1e9
    if "seconds" in row:
        cost = f"{row['seconds']:8.4f} s"
    else:
        cost = (
            f"{row['bytes_of_memory'] / 1e9:6.1f} GB moved  {row['flop'] / 1e12:6.2f} TFLOP  "
            f"roofline {row['roofline_seconds']:.3f} s"
        )
    return f"{name} {memory:6.2f} GB  {cost}  compiled in {row['compile_seconds']:.0f} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
