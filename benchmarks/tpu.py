"""Compiles the full-size train step for a TPU, without having one, and prints its cost.

  pip install --no-deps --target=libtpu libtpu
  PYTHONPATH=libtpu python -m benchmarks.tpu --topology=v5e:1x1

(If libtpu is installed in the environment itself, JAX looks for a TPU at every start.)

The step is the paper's (DeepLabv2-ResNet101, ALP-GI, 720x1280 and 512x1024 pixels, batch of one).
On several chips (--data, --space) the batch has `data` such images, and their rows are sharded over
`space` chips.

The compiler reports the size of temporaries. Bytes are counted in the compiled program's text
(`benchmarks.traffic`), and floating-point operations in the program before compilation. The
roofline time is the larger of (bytes through main memory / bandwidth) and (operations / peak rate).
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import results, traffic

# Published peak rates of one chip: bfloat16 FLOP/s, memory bytes/s.
PEAKS = {"v5e": (197e12, 819e9), "v6e": (918e12, 1640e9)}
MEMORY = {"v5e": 16 * 2**30, "v6e": 32 * 2**30}  # Bytes of one chip.
# Name -> fields of `config.model`; the activation type also applies to the discriminator.
VARIANTS: dict[str, dict[str, Any]] = {
    "float32, written out": {"activation_dtype": "float32", "scan_blocks": False},
    "float32": {"activation_dtype": "float32"},
    "bfloat16, written out": {"activation_dtype": "bfloat16", "scan_blocks": False},
    "bfloat16": {"activation_dtype": "bfloat16"},
    "bfloat16, rematerialised": {"activation_dtype": "bfloat16", "rematerialise": True},
    "bfloat16, written out, O1": {"activation_dtype": "bfloat16", "scan_blocks": False},
}
# Variant -> `JAX_OPTIMIZATION_LEVEL`, the compiler's effort.
EFFORT = {"bfloat16, written out, O1": "O1"}


def main(arguments: Sequence[str]) -> int:
    """Compiles each variant and prints a line for it; writes the lines to --output as JSON."""
    flags = _parse(arguments)
    look_for_no_tpu()
    print(
        f"{'':26} {'temporaries':>12} {'moved':>9} {'of it HBM':>9} {'exchanged':>9} {'TFLOP':>6} "
        f"{'roofline':>9} {'compile':>8}"
    )
    rows: list[dict[str, Any]] = []
    content = {name: getattr(flags, name) for name in ("topology", "data", "space")}
    content["rows"] = rows
    for name in flags.variants:
        rows.append(_measure(name, VARIANTS[name], flags.topology, flags.data, flags.space))
        row = rows[-1]
        print(
            f"{name:26} {row['temporary_bytes'] / 1e9:9.2f} GB {row['bytes_moved'] / 1e9:6.1f} GB "
            f"{row['bytes_of_memory'] / 1e9:6.1f} GB {row['bytes_exchanged'] / 1e9:6.2f} GB "
            f"{row['flop'] / 1e12:6.2f} {row['roofline_seconds']:7.3f} s "
            f"{row['compile_seconds']:6.1f} s",
            flush=True,
        )
        if flags.output:
            results.save(flags.output, "tpu", arguments, content)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = results.create_parser("tpu", __doc__)
    add = parser.add_argument
    add("--topology", default="v5e:1x1", help="such as v5e:1x1 or v6e:1x1")
    add("--data", type=int, default=1, help="chips that share the images of a batch")
    add("--space", type=int, default=1, help="chips that share the rows of an image")
    add("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    return parser.parse_args(arguments)


def _measure(
    name: str, options: dict[str, Any], topology: str, data: int, space: int
) -> dict[str, Any]:
    import jax

    from benchmarks import paper_step

    jax.config.update("jax_optimization_level", EFFORT.get(name, "UNKNOWN"))
    settings = paper_step.create_settings(**{"batch_size": data, **options})
    return {"variant": name, **measure(settings, topology, data, space)}


def look_for_no_tpu() -> None:
    """Sets the environment of a process that compiles for a TPU that is not there."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # Else JAX itself looks for a TPU.
    # libtpu queries the cloud's metadata server unless these variables are set.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")


def measure(settings: Any, topology: str, data: int = 1, space: int = 1) -> dict[str, Any]:
    """Compiles a step with donated state; returns the cost of the program.

    Args:
      settings: RunSettings of the step.
      topology: such as v5e:1x1.
      data, space: chips that share the images of a batch, and the rows of an image.
    """
    import jax
    import numpy as np
    from jax.experimental import topologies

    from alp_jax.devices import mesh
    from benchmarks import paper_step

    step, (state, batch, rng) = paper_step.describe(settings)
    devices = topologies.get_topology_desc(topology, platform="tpu").devices[: data * space]
    chips = jax.sharding.Mesh(np.array(devices).reshape(data, space), (mesh.DATA, mesh.SPACE))

    def place(leaf: jax.ShapeDtypeStruct, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    state, rng = jax.tree.map(lambda leaf: place(leaf, mesh.replicate(chips)), (state, rng))
    batch = jax.tree.map(lambda leaf: place(leaf, mesh.spread(chips, leaf.ndim)), batch)
    with tempfile.TemporaryDirectory() as folder:
        # Not the program's `as_text()`: JAX cannot parse every program that libtpu makes for a v6e.
        dump: dict[str, str | bool] = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        started = time.monotonic()
        program = step.lower(state, batch, rng).compile(compiler_options=dump)
        seconds = time.monotonic() - started
        (path,) = pathlib.Path(folder).glob("*jit_train_step*.after_optimizations.txt")
        moved = traffic.count(path.read_text())
    memory = program.memory_analysis()
    peak, bandwidth = PEAKS[topology.partition(":")[0]]
    flop = paper_step.count_flop(settings) / (data * space)
    return {
        "compile_seconds": seconds,
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "aliased_bytes": memory.alias_size_in_bytes,
        "bytes_moved": moved.moved,
        "bytes_of_memory": moved.memory,
        "bytes_exchanged": moved.exchanged,
        # Right only for a program without loops: XLA counts the body of a loop once.
        "bytes_accessed_by_xla": program.cost_analysis()["bytes accessed"],
        "flop": flop,
        "roofline_seconds": max(moved.memory / bandwidth, flop / peak),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
