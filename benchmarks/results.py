"""Shared parts of the benchmarks: flags, repeated timing, and JSON output."""

import argparse
import pathlib
import shlex
import time
from collections.abc import Callable, Sequence
from typing import Any


def create_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Creates the parser of `python -m benchmarks.NAME`, with --output."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=pathlib.Path, help="JSON file")
    return parser


def numbers(text: str) -> list[int]:
    """Parses a flag with a list of integers: 1,2."""
    return [int(part) for part in text.split(",")]


def processor() -> str:
    """Returns the processor's name; "unknown" where Linux does not give it."""
    path = pathlib.Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def save(path: pathlib.Path, name: str, arguments: Sequence[str], content: dict[str, Any]) -> None:
    """Writes the content as JSON, with the command and versions; creates the folder."""
    # Imported here: processes that measure PyTorch must not import JAX, and others must first set
    # JAX's environment.
    from alp_jax.command import versions
    from alp_jax.workdir import files

    command = shlex.join(["python", "-m", f"benchmarks.{name}", *arguments])
    result = {"command": command, "versions": versions.describe(), **content}
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, result)


def time_calls(step: Callable[[], object], count: int, *, unmeasured: int = 1) -> list[float]:
    """Returns the seconds of each call, after `unmeasured` warm-up calls."""
    for _ in range(unmeasured):
        step()
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return seconds
