"""Compiles the full-size train step for a TPU, without one, and prints what its compiler says.

  pip install --no-deps --target=libtpu libtpu
  PYTHONPATH=libtpu python -m benchmarks.tpu --topology=v5e:1x1

(Installed in the environment itself, libtpu makes JAX look for a TPU at every start.)

The step is the paper's (DeepLabv2-ResNet101, ALP-GI, 720x1280 and 512x1024 pixels, batch of one).
Bytes moved and arithmetic are the compiler's own count of the program with all blocks written out,
as it counts the body of a loop once; temporaries and compile time are of the program that runs.
The roofline time is the larger of bytes / bandwidth and arithmetic / peak rate.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import results

# Published peaks of one chip: bfloat16 FLOP/s, bytes/s of its memory.
PEAKS = {"v5e": (197e12, 819e9), "v6e": (918e12, 1640e9)}
# Fields of `config.model`; activations in bfloat16 are the discriminator's, too.
VARIANTS: dict[str, dict[str, Any]] = {
    "float32, written out": {"activation_dtype": "float32", "scan_blocks": False},
    "float32": {"activation_dtype": "float32"},
    "bfloat16": {"activation_dtype": "bfloat16"},
    "bfloat16, rematerialised": {"activation_dtype": "bfloat16", "rematerialise": True},
}


def main(arguments: Sequence[str]) -> int:
    """Compiles each variant and prints a line for it; writes JSON where --output says."""
    flags = _parse(arguments)
    os.environ["JAX_PLATFORMS"] = "cpu"  # Or JAX itself looks for a TPU.
    # libtpu asks the machine of a cloud for its place unless it is told.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    print(f"{'':26} {'temporaries':>12} {'moved':>10} {'TFLOP':>6} {'roofline':>9} {'compile':>8}")
    rows = []
    for name in flags.variants:
        rows.append(_measure(name, VARIANTS[name], flags.topology))
        row = rows[-1]
        print(
            f"{name:26} {row['temporary_bytes'] / 1e9:9.2f} GB {row['bytes_moved'] / 1e9:7.1f} GB "
            f"{row['flop'] / 1e12:6.2f} {row['roofline_seconds']:7.3f} s "
            f"{row['compile_seconds']:6.1f} s",
            flush=True,
        )
    if flags.output:
        content = {"topology": flags.topology, "rows": rows}
        results.save(flags.output, "tpu", arguments, content)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = results.create_parser("tpu", __doc__)
    add = parser.add_argument
    add("--topology", default="v5e:1x1", help="such as v5e:1x1 or v6e:1x1")
    add("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    return parser.parse_args(arguments)


def _measure(name: str, options: dict[str, Any], topology: str) -> dict[str, Any]:
    runs, seconds = _compile(options, topology)
    counted = runs
    if options.get("scan_blocks", True):
        counted, _ = _compile(options | {"scan_blocks": False}, topology)
    cost, memory = counted.cost_analysis(), runs.memory_analysis()
    peak, bandwidth = PEAKS[topology.partition(":")[0]]
    moved, flop = cost["bytes accessed"], cost["flops"]
    return {
        "variant": name,
        "compile_seconds": seconds,
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "aliased_bytes": memory.alias_size_in_bytes,
        "bytes_moved": moved,
        "flop": flop,
        "roofline_seconds": max(moved / bandwidth, flop / peak),
    }


def _compile(options: dict[str, Any], topology: str) -> tuple[Any, float]:
    """Compiles the step, its state donated; returns the program and the seconds that it took."""
    import jax
    import numpy as np
    from jax.experimental import topologies

    from benchmarks import paper_step

    devices = topologies.get_topology_desc(topology, platform="tpu").devices
    mesh = jax.sharding.Mesh(np.array(devices[:1]), ("data",))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    step, arguments = paper_step.describe(paper_step.create_config(**options))
    placed = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), arguments
    )
    started = time.monotonic()
    compiled = step.lower(*placed).compile()
    return compiled, time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
