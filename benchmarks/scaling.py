"""Measures how the train step's time and memory grow with pixels, images and devices.

  python -m benchmarks.scaling --output=benchmarks/scaling.json

The step is the paper's (`benchmarks.paper_step`) at a fraction of its size. Each table varies one
quantity: the sides of the images, the number of images in a batch, or the number of devices that
share a batch. Each point is measured in a separate process. The devices are virtual, all on the
same cores: with more of them, time should stay constant and the memory of each should fall. Below
each table are the exponents of time and memory: the slope of log(cost) over log(work), by least
squares.
"""

import argparse
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import results

SCALES = (8, 6, 4, 3)
BATCH_SIZES = (1, 2, 4)
DEVICES = (1, 2, 4, 8)
# Divisor of the paper's sides in the tables of images and of devices. The batch of the latter has
# as many images as the largest number of devices.
_SCALE = 8


def main(arguments: Sequence[str]) -> int:
    """Measures and prints the tables; writes them to --output as JSON."""
    flags = _parse(arguments)
    if flags.child:
        return _child()
    points: dict[str, list[dict[str, int]]] = {
        "pixels": [{"scale": scale, "batch_size": 1, "devices": 1} for scale in SCALES],
        "images": [{"scale": _SCALE, "batch_size": n, "devices": 1} for n in BATCH_SIZES],
        "devices": [{"scale": _SCALE, "batch_size": DEVICES[-1], "devices": n} for n in DEVICES],
    }
    tables = {}
    for name, specs in points.items():
        rows = []
        print(f"{name:>9} {'seconds':>9} {'temporaries a device':>22}")
        for spec in specs:
            rows.append(spec | spawn(spec, flags.steps))
            row = rows[-1]
            print(f"{row[name]:9} {row['seconds']:9.2f} {row['temporary_bytes'] / 2**20:18.0f} MiB")
        exponents = {key: fit_exponent(rows, name, key) for key in ("seconds", "temporary_bytes")}
        print("exponent  " + " ".join(f"{value:9.2f}" for value in exponents.values()) + "\n")
        tables[name] = {"rows": rows, "exponents": exponents}
    if flags.output:
        content = {"processor": results.processor(), "cores": len(os.sched_getaffinity(0))}
        results.save(flags.output, "scaling", arguments, content | {"tables": tables})
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = results.create_parser("scaling", __doc__)
    parser.add_argument("--steps", type=int, default=3, help="timed steps, after one warm-up step")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def fit_exponent(rows: Sequence[dict[str, float]], work: str, cost: str) -> float:
    """Fits cost = a * work^b by least squares of the logarithms; returns b."""
    slope, _ = np.polyfit(
        np.log([row[work] for row in rows]), np.log([row[cost] for row in rows]), deg=1
    )
    return float(slope)


def spawn(spec: dict[str, int], steps: int) -> dict[str, Any]:
    """Measures one point in a separate process with the point's number of virtual devices."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", "--child"],
        input=pickle.dumps(spec | {"steps": steps}),
        stdout=subprocess.PIPE,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(spec["devices"]), "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    return pickle.loads(result.stdout)


def _child() -> int:
    spec = pickle.load(sys.stdin.buffer)
    found = measure(**spec)
    sys.stdout.buffer.write(pickle.dumps(found))
    return 0


def measure(*, scale: int, batch_size: int, devices: int, steps: int) -> dict[str, Any]:
    """Times steps of this process, on so many of its devices."""
    import jax

    from alp_jax.devices import mesh
    from alp_jax.run import assembly
    from benchmarks import paper_step

    settings = paper_step.create_settings(scale=scale, batch_size=batch_size, data=devices, space=1)
    chips = assembly.create_mesh(settings)
    step, _ = paper_step.describe(settings)
    batch = paper_step.draw_batch(settings)
    placed = mesh.place_batch(batch, chips, batch_size=batch_size)
    state = assembly.create_train_state(assembly.create_setup(settings), jax.random.key(0), chips)
    key = mesh.copy_everywhere(jax.random.key(1), chips)
    program = step.lower(state, placed, key).compile(assembly.COMPILER_OPTIONS["cpu"])

    def advance() -> None:
        nonlocal state
        state, scalars = program(state, placed, key)
        jax.block_until_ready((state, scalars))

    seconds = float(np.median(results.time_calls(advance, steps)))
    pixels = sum(sample.images[..., 0].size for sample in batch.values())
    return {
        "seconds": seconds,
        "temporary_bytes": program.memory_analysis().temp_size_in_bytes,
        "pixels": pixels,
        "images": batch_size,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
