"""Prints the results of benchmarks.methods as the Markdown tables of docs/full_size.md.

  python -m benchmarks.methods_table --input=benchmarks/measured/methods_h200.json

Memory is what the compiled program takes: its arguments and its temporaries, in GB of 1e9 bytes.
"""

import json
import pathlib
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import methods, results, tpu

Row = Mapping[str, Any]
TITLES = {
    "gta5_to_cityscapes": "GTA5 → Cityscapes",
    "synthia_to_cityscapes": "SYNTHIA → Cityscapes",
}
BASE = "source_only"  # The method that the others' cost is relative to.
_UNKNOWN = "-"
_MEASURED: dict[str, Callable[[Row], str]] = {
    "seconds": lambda row: f"{row['seconds']:.3f}",
    "memory, GB": lambda row: f"{methods.count_bytes(row) / 1e9:.1f}",
}
_COMPILED: dict[str, Callable[[Row], str]] = {
    "moved, GB": lambda row: f"{row['bytes_of_memory'] / 1e9:.0f}",
    "TFLOP": lambda row: f"{row['flop'] / 1e12:.1f}",
    "roofline, s": lambda row: f"{row['roofline_seconds']:.3f}",
}


def main(arguments: Sequence[str]) -> int:
    """Prints the tables of a file of results."""
    parser = results.create_parser("methods_table", __doc__)
    parser.add_argument("--input", type=pathlib.Path, required=True, help="results of methods")
    print(write_tables(json.loads(parser.parse_args(arguments).input.read_text())))
    return 0


def write_tables(content: Mapping[str, Any]) -> str:
    """Writes a table for each experiment and precision, the cheapest step first.

    Args:
      content: JSON that benchmarks.methods wrote with --output.
    """
    topology = methods.parse(shlex.split(content["command"])[3:]).topology
    groups: dict[tuple[str, str, bool], list[Row]] = {}
    for row in content["rows"]:
        key = (row["experiment"], row["dtype"], row["written_out"])
        groups.setdefault(key, []).append(row)
    parts = []
    for (experiment, dtype, written_out), rows in groups.items():
        device = f"compiled for {topology}" if topology else _find_device(rows)
        form = "blocks written out" if written_out else "blocks in loops"
        parts.append(f"{TITLES[experiment]}, {device}, {dtype}, {form}:")
        parts.append("\n".join(_write_table(rows, topology.partition(":")[0])))
    return "\n\n".join(parts)


def _find_device(rows: Sequence[Row]) -> str:
    (device,) = {row["device"] for row in rows if "device" in row}
    return device


def _write_table(rows: Sequence[Row], chip: str) -> list[str]:
    """Writes the lines of a table; `chip` is that of a compiled step, or empty."""
    time = "roofline_seconds" if chip else "seconds"
    bases = [row[time] for row in rows if BASE in row["methods"] and time in row]
    cells: dict[str, Callable[[Row], str]] = {}
    if chip:
        cells["memory, GB"] = lambda row: _describe_memory(row, chip)
    cells |= _COMPILED if chip else _MEASURED
    cells[f"times `{BASE}`"] = lambda row: f"{row[time] / bases[0]:.2f}" if bases else _UNKNOWN
    lines = [
        f"| method | batch | {' | '.join(cells)} |",
        "| --- | ---: |" + " ---: |" * len(cells),
    ]
    for row in sorted(rows, key=lambda row: row.get(time, float("inf"))):
        names = ", ".join(f"`{name}`" for name in row["methods"])
        if "does_not_fit" in row:
            values = ["does not fit", *[_UNKNOWN] * (len(cells) - 1)]
        else:
            values = [write(row) for write in cells.values()]
        lines.append(f"| {names} | {row['batch_size']} | {' | '.join(values)} |")
    return lines


def _describe_memory(row: Row, chip: str) -> str:
    size = methods.count_bytes(row)
    fits = size <= tpu.MEMORY[chip]
    return f"{size / 1e9:.1f}" + ("" if fits else f", does not fit {tpu.MEMORY[chip] >> 30} GiB")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
