"""Trains for many steps and watches the process: memory, file handles and threads must not grow.

python -m tests.faults.soak --steps=40000

Starts the training command on the tiny dataset, with checkpoints and evaluations at intervals, and
reads /proc every second: resident memory, open handles, threads. Prints, as JSON, the slope of the
memory by least squares over the second half of the steps, when caches and pools are full, and the
handles and threads in quiet moments (medians) at the begin and the end of that half. Linux only.
"""

import argparse
import json
import os
import pathlib
import re
import tempfile
from typing import Any

import numpy as np

from tests import tiny
from tests.faults import command

_PAGE = os.sysconf("SC_PAGE_SIZE")


def read_process(pid: int) -> tuple[int, int, int] | None:
    """(resident bytes, open handles, threads) of a process; None when it is over."""
    folder = pathlib.Path("/proc") / str(pid)
    try:
        resident = int((folder / "statm").read_text().split()[1]) * _PAGE
        return (
            resident,
            len(list((folder / "fd").iterdir())),
            len(list((folder / "task").iterdir())),
        )
    except (OSError, IndexError):
        return None


def summarise(samples: np.ndarray) -> dict[str, Any]:
    """Describes [N, 4] samples: step, resident bytes, handles, threads."""
    half = samples[samples[:, 0] >= samples[-1, 0] / 2]
    slope, _ = np.polyfit(half[:, 0], half[:, 1], 1)
    fifth = max(len(half) // 5, 1)
    first, last = np.median(half[:fifth], axis=0), np.median(half[-fifth:], axis=0)
    return {
        "steps": int(samples[-1, 0]),
        "samples": len(samples),
        "resident_mb_slope_per_1000_steps": round(1000 * slope / 1e6, 3),
        "resident_mb": [round(first[1] / 1e6, 1), round(last[1] / 1e6, 1)],
        "resident_mb_highest": round(samples[:, 1].max() / 1e6, 1),
        "open_handles": [int(first[2]), int(last[2])],
        "threads": [int(first[3]), int(last[3])],
    }


def run(folder: pathlib.Path, *, num_steps: int, every_seconds: float) -> dict[str, Any]:
    """Trains and samples.

    Raises:
      AssertionError: if the training fails.
    """
    (folder / "data").mkdir()
    tiny.build(folder / "data")
    flags = {
        "num_steps": num_steps,
        "optimizer.horizon_steps": num_steps,
        "log_every_steps": 100,
        "checkpoint.every_steps": 500,
        "evaluation.every_steps": 1000,
    }
    arguments = [
        command.write_config(folder, folder / "data"),
        f"--workdir={folder / 'run'}",
        *(f"--config.{name}={value}" for name, value in flags.items()),
    ]
    started = command.start(arguments, folder / "log")
    samples = []
    while started.wait(every_seconds) is None:
        steps = re.findall(r"step (\d+)/", started.read_log())
        sample = read_process(started.pid)
        if steps and sample is not None:
            samples.append((int(steps[-1]), *sample))
    assert started.wait(0) == 0, started.read_log()
    return summarise(np.array(samples))


def main() -> None:
    """Parses the flags, runs, and prints the summary as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=40_000)
    parser.add_argument("--every_seconds", type=float, default=1.0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(
            pathlib.Path(folder), num_steps=flags.steps, every_seconds=flags.every_seconds
        )
    print(json.dumps(outcome, indent=1))


if __name__ == "__main__":
    main()
