"""Times the train step against published code restated in PyTorch, on the same cores.

  python -m benchmarks.train_step --scales=4,2,1 --cores=1,2

Both sides train the paper's network (DeepLabv2-ResNet101, ALP-GI, 720x1280 and 512x1024 pixels
divided by the scale) in float32. Processes of the two sides alternate, each alone on its cores;
what is printed is the ratio of median step times, the peak memory of a process, and the share of
the machine's measured rate of matrix products that the arithmetic of the step reaches. Peak memory
is that of the steps after the first, with all else that the process then holds. Ours finds its
program in the cache of compiled ones, as every run does but the first, which a process before the
measured ones is: JSON has the memory of that, too.
"""

import argparse
import json
import os
import pathlib
import pickle
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import results

ROOT = pathlib.Path(__file__).parents[1]
SIDES = ("alp_jax", "torch")
# Sides of the matrices of the attainable rate.
_MATMUL_SIZE = 3072


def main(arguments: Sequence[str]) -> int:
    """Measures and prints; writes JSON where --output says."""
    flags = _parse(arguments)
    if flags.child:
        return _child(flags.child)
    rows: list[dict[str, Any]] = []
    content = {"torch": _torch_version(), "processor": results.processor(), "rows": rows}
    for cores in flags.cores:
        rate = _spawn("matmul", {}, cores)["flop_per_second"]
        for scale in flags.scales:
            rows.append(_measure(scale, cores, flags.steps, flags.blocks, rate))
            _print_row(rows[-1], first=len(rows) == 1)
            if flags.output:
                results.save(flags.output, "train_step", arguments, content)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = results.create_parser("train_step", __doc__)

    add = parser.add_argument
    add(
        "--scales",
        type=results.numbers,
        default=[4, 2, 1],
        help="divisors of both sides of the images",
    )
    add("--cores", type=results.numbers, default=[2], help="numbers of cores")
    add("--steps", type=int, default=3, help="timed in each process, after one that is not")
    add("--blocks", type=int, default=2, help="processes of each side, one side after the other")
    add("--child", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _measure(scale: int, cores: int, steps: int, blocks: int, rate: float) -> dict[str, Any]:
    spec = _create_spec(scale) | {"steps": steps}
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as cache_dir:
        compiling = _spawn("alp_jax", spec, cores, cache_dir)
        for block in range(blocks):
            for side in SIDES if block % 2 == 0 else SIDES[::-1]:
                found[side].append(_spawn(side, spec, cores, cache_dir))
    seconds = {side: [s for one in found[side] for s in one["seconds"]] for side in SIDES}
    median = {side: float(np.median(seconds[side])) for side in SIDES}
    flop = _spawn("flop", spec, cores)["flop"]
    return {
        "scale": scale,
        "cores": cores,
        "source_size": spec["source_size"],
        "target_size": spec["target_size"],
        "seconds": seconds,
        "median_seconds": median,
        "ratio": median["alp_jax"] / median["torch"],
        **{
            key: {side: max(one[key] for one in found[side]) for side in SIDES}
            for key in ("peak_gib", "peak_gib_of_process")
        },
        "when_compiling": compiling,
        "flop": flop,
        "matmul_flop_per_second": rate,
        "share_of_matmul_rate": {side: flop / median[side] / rate for side in SIDES},
    }


def _print_row(row: dict[str, Any], *, first: bool) -> None:
    if first:
        print(
            f"{'source':>9} {'cores':>5} {'alp_jax s':>10} {'torch s':>10} {'ratio':>6} "
            f"{'peak GiB':>13} {'of matmul rate':>15}"
        )
    height, width = row["source_size"]
    ours, theirs = (row["median_seconds"][side] for side in SIDES)
    peak = " / ".join(f"{row['peak_gib'][side]:.2f}" for side in SIDES)
    share = " / ".join(f"{row['share_of_matmul_rate'][side]:.0%}" for side in SIDES)
    print(
        f"{f'{height}x{width}':>9} {row['cores']:>5} {ours:10.3f} {theirs:10.3f} "
        f"{row['ratio']:6.2f} {peak:>13} {share:>15}",
        flush=True,
    )


def _create_spec(scale: int) -> dict[str, Any]:
    """What a process of either side needs; the PyTorch side imports no JAX."""
    from benchmarks import paper_step
    from tests import parity

    config = paper_step.create_config(scale=scale)
    return {
        "scale": scale,
        "source_size": config.data.source_size,
        "target_size": config.data.target_size,
        "segmenter": parity.torch_segmenter_arguments(config),
        "settings": parity.create_torch_settings(config),
        "discriminator_widths": tuple(config.discriminator.widths),
        "num_classes": config.data.num_classes,
    }


def _spawn(role: str, spec: dict[str, Any], cores: int, cache_dir: str = "") -> dict[str, Any]:
    """Runs a role in a process of its own on the first cores allowed, and reads what it found."""
    spec = spec | {"cores": sorted(os.sched_getaffinity(0))[:cores]}
    environment = os.environ | {"OMP_NUM_THREADS": str(cores), "TF_ENABLE_ONEDNN_OPTS": "0"}
    if cache_dir:
        environment["JAX_COMPILATION_CACHE_DIR"] = cache_dir
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.train_step", f"--child={role}"],
        input=pickle.dumps(spec),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def _child(role: str) -> int:
    spec = pickle.load(sys.stdin.buffer)
    os.sched_setaffinity(0, spec["cores"])
    roles = {"alp_jax": _run_ours, "torch": _run_torch, "matmul": _run_matmul, "flop": _count_flop}
    found = roles[role](spec)
    print(json.dumps(found))
    return 0


def _make_batch(spec: dict[str, Any]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    source, target = tuple(spec["source_size"]), tuple(spec["target_size"])
    return {
        "source_images": rng.integers(0, 256, (1, *source, 3), np.uint8),
        "source_labels": rng.integers(0, spec["num_classes"], (1, *source), np.uint8),
        "target_images": rng.integers(0, 256, (1, *target, 3), np.uint8),
    }


def _run_ours(spec: dict[str, Any]) -> dict[str, Any]:
    import jax

    from alp_jax import assembly
    from benchmarks import paper_step

    statics = assembly.create_statics(paper_step.create_config(scale=spec["scale"]))
    batch, rng = _make_batch(spec), jax.random.key(0)
    state = assembly.create_train_state(statics, rng)
    step = assembly.compile_train_step(statics, state, batch, rng)

    def advance() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    return _time_steps(advance, spec["steps"])


def _time_steps(step: Callable[[], object], count: int) -> dict[str, Any]:
    """Times the steps after the first, and looks at the memory that they take."""
    step()
    before = _peak_gib()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # What is resident now is the peak.
    seconds = results.time_calls(step, count, unmeasured=0)
    return {
        "seconds": seconds,
        "peak_gib": _peak_gib(),
        "peak_gib_of_process": max(before, _peak_gib()),
    }


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _count_flop(spec: dict[str, Any]) -> dict[str, Any]:
    from benchmarks import paper_step

    return {"flop": paper_step.count_flop(paper_step.create_config(scale=spec["scale"]))}


def _run_torch(spec: dict[str, Any]) -> dict[str, Any]:
    import torch

    from tests import torch_reference

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    segmenter = torch_reference.DeepLabV2(**spec["segmenter"])
    discriminator = torch_reference.create_discriminator(
        spec["num_classes"], spec["discriminator_widths"]
    )
    trainer = torch_reference.Trainer(
        segmenter, {torch_reference.MAIN: discriminator}, spec["settings"]
    )
    batch = _make_batch(spec)
    # Contiguous, as published loaders give them. The order of axes is passed on by every layer, and
    # with channels last, oneDNN computes a gradient of full size by its reference code on AVX2.
    images = {
        domain: torch.from_numpy(batch[f"{domain}_images"]).permute(0, 3, 1, 2).contiguous() - 116.0
        for domain in ("source", "target")
    }
    labels = torch.from_numpy(batch["source_labels"]).long()
    offsets = {domain: np.zeros((1, 1, 2), np.int64) for domain in images}
    return _time_steps(lambda: trainer.train_step(0, images, labels, offsets), spec["steps"])


def _run_matmul(spec: dict[str, Any]) -> dict[str, Any]:
    """The best of PyTorch's float32 matrix products, which is the machine's rate here."""
    del spec
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    left, right = torch.randn(2, _MATMUL_SIZE, _MATMUL_SIZE)
    seconds = min(results.time_calls(lambda: left @ right, 5))
    return {"flop_per_second": 2 * _MATMUL_SIZE**3 / seconds}


def _torch_version() -> str:
    import torch

    return torch.__version__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
