"""Compares the train steps of two checkouts, case by case."""

import dataclasses
import json
import pathlib

import numpy as np

from tests.same_bits.cases import Case
from tests.same_bits.comparison import compare_arrays, same_program
from tests.same_bits.sides import Side

_PROGRAMS = ("start", "step")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of one case."""

    name: str
    is_same: bool
    text: str


class StepComparison:
    """Compares the cases of one table; the files of both sides lie below one folder."""

    def __init__(self, base: Side, head: Side, table: dict[str, Case], folder: pathlib.Path):
        """Writes the table."""
        self._sides = (base, head)
        self._names = list(table)
        self._folder = folder
        self._table = folder / "cases.json"
        cases = {name: dataclasses.asdict(case) for name, case in table.items()}
        self._table.write_text(json.dumps(cases))

    def run(self, num_steps: int, *, run_all: bool, quick: bool) -> list[Verdict]:
        """Compares programs, then runs the steps of cases whose programs differ.

        Args:
          num_steps: steps to run.
          run_all: whether to run steps of all cases, also those with the same programs.
          quick: whether to compile without optimisation, unlike training.
        """
        self._run_workers(self._names, "--texts-only")
        failed = {name: fault for name in self._names if (fault := self._find_fault(name))}
        whole = [name for name in self._names if name not in failed]
        changed = {name: self._changed_programs(name) for name in whole}
        to_run = [name for name in whole if changed[name] or run_all]
        if to_run:
            more = ["--quick"] if quick else []
            if any("start" in changed[name] for name in to_run) and not quick:
                more.append("--optimise-start")
            self._run_workers(to_run, f"--steps={num_steps}", *more)
            failed |= {name: fault for name in to_run if (fault := self._find_fault(name))}
        return [
            Verdict(name, False, failed[name])
            if name in failed
            else self._judge(name, changed[name], num_steps, was_run=name in to_run)
            for name in self._names
        ]

    def _run_workers(self, names: list[str], *arguments: str) -> None:
        """Runs the worker of each side, one after the other."""
        for side in self._sides:
            print(f"{side.name}: {side.worker}", flush=True)
            side.run(
                str(side.worker),
                f"--table={self._table}",
                f"--cases={','.join(names)}",
                f"--output={self._folder / side.name}",
                *arguments,
            )

    def _find_fault(self, name: str) -> str:
        """Says on which sides a case failed, with the last line of the traceback, or ""."""
        faults = []
        for side in self._sides:
            path = self._folder / side.name / f"{name}.error"
            if path.exists():
                faults.append(f"{side.name} failed: {path.read_text().strip().splitlines()[-1]}")
        return "; ".join(faults)

    def _changed_programs(self, name: str) -> list[str]:
        def read(side: Side, program: str) -> str:
            return (self._folder / side.name / f"{name}.{program}.txt").read_text()

        base, head = self._sides
        return [p for p in _PROGRAMS if not same_program(read(base, p), read(head, p))]

    def _judge(self, name: str, changed: list[str], num_steps: int, *, was_run: bool) -> Verdict:
        programs = f"other {' and '.join(changed)}" if changed else "same program"
        if not was_run:
            return Verdict(name, True, programs)
        base, head = (self._read_arrays(side, name) for side in self._sides)
        comparison = compare_arrays(base, head)
        text = f"{programs}, {num_steps} steps: {comparison.describe()}"
        return Verdict(name, comparison.is_same, text)

    def _read_arrays(self, side: Side, name: str) -> dict[str, np.ndarray]:
        with np.load(self._folder / side.name / f"{name}.npz") as held:
            return dict(held)
