"""Times the train step and published code, restated in PyTorch, on the same cores.

  python -m benchmarks.train_step --scales=4,2,1 --cores=1,2
  python -m benchmarks.train_step --platform=gpu --cores=16 --scales=1 --steps=20 --blocks=1

Both sides train the paper's network (DeepLabv2-ResNet101, ALP-GI, 720x1280 and 512x1024 pixels
divided by the scale). Processes of the two sides alternate, each alone on its cores. Printed are
the ratio of median step times, the peak memory of a process, and the arithmetic rate of the step as
a fraction of the machine's measured rate of matrix products. Peak memory is that of the whole
process during the steps after the first. Our processes load their program from the compilation
cache, like every run but the first; another process fills the cache before the measurements, and
the JSON holds its memory, too.

On a GPU, memory is the GPU's, as each side's allocator counts it, and float32 has each side's
default precision: products in TensorFloat-32. PyTorch searches for the fastest algorithms, as
published code does (cudnn.benchmark), and uses bfloat16 by autocast. The fastest of the memory
formats in --torch_formats counts.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import pickle
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from benchmarks import results

ROOT = pathlib.Path(__file__).parents[1]
SIDES = ("alp_jax", "torch")
DTYPES = ("float32", "bfloat16")
# PyTorch's memory formats. Published loaders return images in the first, and every layer keeps it.
# With channels last, oneDNN computes a full-size gradient with its reference code on AVX2.
FORMATS = ("contiguous_format", "channels_last")
# Side of the square matrices that measure the attainable rate, by platform.
MATMUL_SIZES = {"cpu": 3072, "gpu": 8192}


def main(arguments: Sequence[str]) -> int:
    """Measures and prints the rows; writes them to --output as JSON."""
    flags = _parse(arguments)
    if flags.child:
        return _child(flags.child)
    # This process only describes the machine: the GPU's memory is for the measured processes.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    rows: list[dict[str, Any]] = []
    content = {"torch": _torch_version(), "processor": results.processor(), "rows": rows}
    for cores, dtype in itertools.product(flags.cores, flags.dtypes):
        setting = {
            "platform": flags.platform,
            "dtype": dtype,
            "steps": flags.steps,
            "formats": flags.torch_formats,
        }
        attainable = spawn("matmul", setting, cores)
        for scale in flags.scales:
            spec = _create_spec(scale) | setting
            rows.append(_measure(spec, cores, flags.blocks, attainable))
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
    add("--platform", choices=list(MATMUL_SIZES), default="cpu", help="where the steps run")
    for name, choices, what in (
        ("--dtypes", DTYPES, "of activations"),
        ("--torch_formats", FORMATS, "of PyTorch's images and kernels in memory"),
    ):
        add(
            name,
            type=functools.partial(_choose, choices),
            default=[choices[0]],
            help=f"{what}: {','.join(choices)}",
        )
    add("--steps", type=int, default=3, help="timed steps in each process, after one warm-up step")
    add("--blocks", type=int, default=2, help="processes of each side; the sides alternate")
    add("--child", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _choose(choices: Collection[str], text: str) -> list[str]:
    """Parses a flag that lists some of the choices."""
    names = text.split(",")
    if unknown := set(names) - set(choices):
        raise argparse.ArgumentTypeError(f"{min(unknown)!r} is none of {', '.join(choices)}")
    return names


def _measure(
    spec: dict[str, Any], cores: int, blocks: int, attainable: dict[str, Any]
) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with (
        tempfile.TemporaryDirectory() as cache_dir,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        counting = pool.submit(spawn, "flop", spec, cores)  # Neither of these two is timed.
        compiling = spawn("alp_jax", spec, cores, cache_dir)
        flop = counting.result()["flop"]
        for block in range(blocks):
            for side in SIDES if block % 2 == 0 else SIDES[::-1]:
                found[side].append(spawn(side, spec, cores, cache_dir))
    seconds = {side: [s for one in found[side] for s in one["seconds"]] for side in SIDES}
    median = {side: float(np.median(seconds[side])) for side in SIDES}
    rate = attainable["flop_per_second"]
    return {
        **{key: spec[key] for key in ("scale", "dtype", "source_size", "target_size")},
        "cores": cores,
        "device": attainable["device"],
        "seconds": seconds,
        "median_seconds": median,
        "ratio": median["alp_jax"] / median["torch"],
        **{
            key: {side: max(one[key] for one in found[side]) for side in SIDES}
            for key in ("peak_gib", "peak_gib_of_process")
        },
        "when_compiling": compiling,
        "torch_median_seconds": [one["median_seconds"] for one in found["torch"]],
        "flop": flop,
        "matmul_flop_per_second": rate,
        "share_of_matmul_rate": {side: flop / median[side] / rate for side in SIDES},
    }


def _print_row(row: dict[str, Any], *, first: bool) -> None:
    if first:
        print(
            f"{'source':>9} {'dtype':>8} {'cores':>5} {'alp_jax s':>10} {'torch s':>10} "
            f"{'ratio':>6} {'peak GiB':>13} {'of matmul rate':>15}"
        )
    height, width = row["source_size"]
    ours, theirs = (row["median_seconds"][side] for side in SIDES)
    peak = " / ".join(f"{row['peak_gib'][side]:.2f}" for side in SIDES)
    share = " / ".join(f"{row['share_of_matmul_rate'][side]:.0%}" for side in SIDES)
    print(
        f"{f'{height}x{width}':>9} {row['dtype']:>8} {row['cores']:>5} {ours:10.3f} {theirs:10.3f} "
        f"{row['ratio']:6.2f} {peak:>13} {share:>15}",
        flush=True,
    )


def _create_spec(scale: int) -> dict[str, Any]:
    """Returns the input of a measured process; the PyTorch side must not import JAX."""
    from alp_jax.data.labels import load_label_set
    from benchmarks import paper_step
    from tests import torch_run

    settings = paper_step.create_settings(scale=scale)
    return {
        "scale": scale,
        "source_size": settings.data.source_size,
        "target_size": settings.data.target_size,
        "segmenter": torch_run.torch_segmenter_arguments(settings),
        "settings": torch_run.create_torch_settings(settings),
        "discriminator_widths": settings.terms["adversarial"].widths,
        "num_classes": load_label_set(settings.data.label_set).num_classes,
    }


def spawn(role: str, spec: dict[str, Any], cores: int, cache_dir: str = "") -> dict[str, Any]:
    """Runs a role in a separate process on the first allowed cores; returns its result."""
    spec = spec | {"cores": sorted(os.sched_getaffinity(0))[:cores]}
    environment = os.environ | {"OMP_NUM_THREADS": str(cores), "TF_ENABLE_ONEDNN_OPTS": "0"}
    if cache_dir:
        environment["JAX_COMPILATION_CACHE_DIR"] = cache_dir
    if role == "flop":  # On a GPU, JAX cannot count the operations of a program for another device.
        environment["JAX_PLATFORMS"] = "cpu"
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
    print(json.dumps(run_role(role, spec)))
    return 0


def run_role(role: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Measures one side's steps, the machine's matrix products or the arithmetic of a step."""
    roles = {"alp_jax": _run_ours, "torch": _run_torch, "matmul": _run_matmul, "flop": _count_flop}
    return roles[role](spec)


def _make_batch(spec: dict[str, Any]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    source, target = tuple(spec["source_size"]), tuple(spec["target_size"])
    return {
        "source_images": rng.integers(0, 256, (1, *source, 3), np.uint8),
        "source_labels": rng.integers(0, spec["num_classes"], (1, *source), np.uint8),
        "target_images": rng.integers(0, 256, (1, *target, 3), np.uint8),
    }


@dataclasses.dataclass(frozen=True)
class Memory:
    """Measures the peak of allocated bytes since `reset`."""

    reset: Callable[[], object]
    peak_bytes: Callable[[], int]


# Resident memory of the process; writing 5 to clear_refs resets the peak to the current value.
_OF_PROCESS = Memory(
    reset=lambda: pathlib.Path("/proc/self/clear_refs").write_text("5"),
    peak_bytes=lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10,
)


def _run_ours(spec: dict[str, Any]) -> dict[str, Any]:
    import jax

    from alp_jax.data.samples import Sample
    from alp_jax.run import assembly
    from benchmarks import paper_step

    setup = assembly.create_setup(paper_step.create_settings(**_get_options(spec)))
    arrays, rng = _make_batch(spec), jax.random.key(0)
    batch = {
        "source": Sample(arrays["source_images"], arrays["source_labels"]),
        "target": Sample(arrays["target_images"]),
    }
    state = assembly.create_train_state(setup, rng)
    step = assembly.compile_train_step(setup, state, batch, rng)

    def advance() -> None:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready((state, metrics))

    memory, device = _OF_PROCESS, jax.devices(spec["platform"])[0]
    if spec["platform"] == "gpu":  # JAX cannot reset this peak; before the first step it is lower.
        memory = Memory(
            reset=lambda: None, peak_bytes=lambda: device.memory_stats()["peak_bytes_in_use"]
        )
    return _time_steps(advance, spec["steps"], memory)


def _time_steps(step: Callable[[], object], count: int, memory: Memory) -> dict[str, Any]:
    """Times the steps after the first, and measures their peak memory."""
    step()
    before = memory.peak_bytes()
    memory.reset()
    seconds = results.time_calls(step, count, unmeasured=0)
    after = memory.peak_bytes()
    return {
        "seconds": seconds,
        "peak_gib": after / 2**30,
        "peak_gib_of_process": max(before, after) / 2**30,
    }


def _get_options(spec: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `paper_step.create_settings`."""
    return {"scale": spec["scale"], "activation_dtype": spec["dtype"]}


def _count_flop(spec: dict[str, Any]) -> dict[str, Any]:
    from benchmarks import paper_step

    return {"flop": paper_step.count_flop(paper_step.create_settings(**_get_options(spec)))}


def _run_torch(spec: dict[str, Any]) -> dict[str, Any]:
    import torch

    from tests import torch_reference

    device = _set_torch_up(spec)
    segmenter = torch_reference.DeepLabV2(**spec["segmenter"])
    discriminator = torch_reference.create_discriminator(
        spec["num_classes"], spec["discriminator_widths"]
    )
    networks = [segmenter.to(device), discriminator.to(device)]
    settings = spec["settings"]
    if device == "cuda":  # The published SGD launches thousands of kernels; today's is faster.
        settings = dataclasses.replace(settings, sgd="clean")
    trainer = torch_reference.Trainer(
        segmenter, {torch_reference.MAIN: discriminator}, settings, keeps_gradients=False
    )
    batch = _make_batch(spec)
    labels = torch.from_numpy(batch["source_labels"]).long().to(device)
    offsets = {domain: np.zeros((1, 1, 2), np.int64) for domain in ("source", "target")}

    def time_format(memory_format: torch.memory_format) -> dict[str, Any]:
        for network in networks:
            network.to(memory_format=memory_format)
        images = {}
        for domain in offsets:
            taken = torch.from_numpy(batch[f"{domain}_images"]).permute(0, 3, 1, 2).to(device)
            images[domain] = (taken - 116.0).contiguous(memory_format=memory_format)

        def advance() -> None:
            with precision:
                trainer.train_step(0, images, labels, offsets)
            if device == "cuda":
                torch.cuda.synchronize()

        return _time_steps(advance, spec["steps"], memory)

    precision: Any = contextlib.nullcontext()
    if spec["dtype"] == "bfloat16":
        precision = torch.autocast(device, torch.bfloat16)
    memory = _OF_PROCESS
    if device == "cuda":
        memory = Memory(torch.cuda.reset_peak_memory_stats, torch.cuda.max_memory_allocated)
    found = {name: time_format(getattr(torch, name)) for name in spec["formats"]}
    medians = {name: float(np.median(one["seconds"])) for name, one in found.items()}
    return found[min(medians, key=medians.__getitem__)] | {"median_seconds": medians}


def _set_torch_up(spec: dict[str, Any]) -> str:
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    return "cuda" if spec["platform"] == "gpu" else "cpu"


def _run_matmul(spec: dict[str, Any]) -> dict[str, Any]:
    """Measures the machine's attainable rate: the fastest of PyTorch's matrix products."""
    import torch

    device, size = _set_torch_up(spec), MATMUL_SIZES[spec["platform"]]
    torch.backends.cuda.matmul.allow_tf32 = True  # As in PyTorch's convolutions and all of ours.
    left, right = torch.randn(2, size, size, dtype=getattr(torch, spec["dtype"]), device=device)

    def multiply() -> None:
        product = left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        del product

    return {
        "flop_per_second": 2 * size**3 / min(results.time_calls(multiply, 5)),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    }


def _torch_version() -> str:
    import torch

    return torch.__version__


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
