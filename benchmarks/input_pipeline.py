"""Measures the pairs per second of the input pipeline, and of published code's loader.

  python -m benchmarks.input_pipeline --workers=1,2

A pair is a source image of 720x1280 with its label and a target image of 512x1024, the paper's
sizes, made from frames of 1052x1914 and 1024x2048 (`benchmarks.street_frames`). Published code is
PyTorch's DataLoader with AdvEnt's datasets over the raw PNG files (`benchmarks.published_loader`).
Ours reads the records that `data_prep` prepares from the same files: at full size, which stores the
same PNG files, and with --size, as README.md recommends. All have the same number of worker
processes, as many cores, and their files in the page cache. Processes of the different loaders
alternate; the numbers are medians.
"""

import argparse
import functools
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import results

ROOT = pathlib.Path(__file__).parents[1]
SOURCE_SIZE, TARGET_SIZE = (720, 1280), (512, 1024)
PUBLISHED = "published"
_REPEATS = 4
# Name of a row -> the loader that it measures.
ROWS = {
    PUBLISHED: "PyTorch and Pillow, PNG files",
    "full_size": "records, full size",
    "resized": "records, prepared with --size",
}


def main(arguments: Sequence[str]) -> int:
    """Measures and prints the rates; writes them to --output as JSON."""
    flags = _parse(arguments)
    if flags.child:
        return _child()
    with tempfile.TemporaryDirectory(prefix="input_pipeline") as folder:
        spec = _prepare(pathlib.Path(folder), flags.frames) | {"pairs": flags.pairs}
        rows = []
        for workers in flags.workers:
            rows += measure(spec, workers, flags.blocks)
            for row in rows[-len(ROWS) :]:
                _print_row(row, first=row is rows[0])
        content = {"processor": results.processor(), "bytes_per_pair": spec["bytes_per_pair"]}
    if flags.output:
        results.save(flags.output, "input_pipeline", arguments, content | {"rows": rows})
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = results.create_parser("input_pipeline", __doc__)
    add = parser.add_argument
    add(
        "--workers",
        type=results.numbers,
        default=[1, 2],
        help="numbers of worker processes and cores",
    )
    add("--frames", type=int, default=12, help="distinct pairs of frames; each is written 4 times")
    add("--pairs", type=int, default=40, help="timed pairs in each process")
    add("--blocks", type=int, default=3, help="processes of each loader; the loaders alternate")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _prepare(folder: pathlib.Path, distinct: int) -> dict[str, Any]:
    """Writes raw files and prepares them with the commands; returns the child processes' input."""
    from benchmarks import street_frames
    from data_prep import cityscapes, gta5

    # Frames are repeated, since Grain's shuffle takes milliseconds for a dataset as small as ten.
    count = _REPEATS * distinct
    raw = street_frames.write(folder / "raw", count, distinct=distinct)
    data_dir = folder / "datasets"
    for command, raw_dir, name, size in (
        (gta5.COMMAND, raw[0], "all", SOURCE_SIZE),
        (cityscapes.COMMAND, raw[1], "unlabelled", TARGET_SIZE),
    ):
        base = ["", f"--raw_dir={raw_dir}", f"--data_dir={data_dir}", f"--configs={name}"]
        for more in ([], [f"--size={size[0]},{size[1]}"]):
            if command.main([*base, *more]) != 0:
                raise RuntimeError(f"Preparing {name} failed.")
    datasets = {
        "full_size": ("gta5/all", "cityscapes/unlabelled"),
        "resized": ("gta5/all_720x1280", "cityscapes/unlabelled_512x1024"),
    }
    bytes_of = {PUBLISHED: sum(map(_num_bytes, raw))}
    for kind, pair in datasets.items():
        bytes_of[kind] = sum(_num_bytes(data_dir / name) for name in pair)
    return {
        "raw": raw,
        "data_dir": str(data_dir),
        "datasets": datasets,
        "bytes_per_pair": {kind: total // count for kind, total in bytes_of.items()},
    }


def _num_bytes(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(spec: dict[str, Any], workers: int, blocks: int) -> list[dict[str, Any]]:
    """Measures processes of each kind; returns a row for each."""
    found: dict[str, list[float]] = {kind: [] for kind in ROWS}
    for block in range(blocks):
        for kind in ROWS if block % 2 == 0 else reversed(ROWS):
            found[kind].append(spawn(spec | {"kind": kind, "workers": workers}))
    published = float(np.median(found[PUBLISHED]))
    return [
        {
            "kind": kind,
            "workers": workers,
            "pairs_per_second": found[kind],
            "median_pairs_per_second": float(np.median(found[kind])),
            "ratio": float(np.median(found[kind])) / published,
            "bytes_per_pair": spec["bytes_per_pair"][kind],
        }
        for kind in ROWS
    ]


def _print_row(row: dict[str, Any], *, first: bool) -> None:
    if first:
        print(f"{'':32} {'workers':>7} {'pairs/s':>8} {'ratio':>6} {'MB a pair':>10}")
    print(
        f"{ROWS[row['kind']]:32} {row['workers']:7} {row['median_pairs_per_second']:8.1f} "
        f"{row['ratio']:6.2f} {row['bytes_per_pair'] / 1e6:10.2f}",
        flush=True,
    )


def spawn(spec: dict[str, Any]) -> float:
    """Measures pairs per second in a separate process, on the first `workers` cores."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.input_pipeline", "--child"],
        input=pickle.dumps(spec),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=functools.partial(os.sched_setaffinity, 0, range(spec["workers"])),
        check=True,
    )
    return float(json.loads(result.stdout.splitlines()[-1]))


def _child() -> int:
    spec = pickle.load(sys.stdin.buffer)
    iterator = (_iterate_published if spec["kind"] == PUBLISHED else _iterate_ours)(spec)
    # Starts the workers, and uses up what they prefetched before all of them were running.
    for _ in range(8 * spec["workers"] + 8):
        next(iterator)
    started = time.perf_counter()
    for _ in range(spec["pairs"]):
        next(iterator)
    print(json.dumps(spec["pairs"] / (time.perf_counter() - started)))
    return 0


def _iterate_published(spec: dict[str, Any]) -> Iterator[Any]:
    from benchmarks import published_loader

    pairs = published_loader.PublishedPairs(*spec["raw"], SOURCE_SIZE, TARGET_SIZE)
    return published_loader.iterate(pairs, spec["workers"])


def _iterate_ours(spec: dict[str, Any]) -> Iterator[Any]:
    from alp_jax.data import pipeline
    from alp_jax.data.labels import load_label_set
    from alp_jax.data.settings import DataSettings

    source, target = spec["datasets"][spec["kind"]]
    settings = DataSettings(data_dir=spec["data_dir"], source=source, target=target)
    batches = pipeline.create_train_batches(
        settings,
        seed=0,
        label_set=load_label_set(settings.label_set),
        domains=pipeline.DOMAINS,
    )
    return pipeline.iterate(
        batches, 0, num_workers=spec["workers"], prefetch_batches=settings.prefetch_batches
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
