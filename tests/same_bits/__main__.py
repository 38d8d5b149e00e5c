"""Compares the numerics of the working tree with those of a revision, bit for bit.

  python -m tests.same_bits --base=106e02e                     # steps, then whole runs
  python -m tests.same_bits --base=106e02e --cases='alp_gi-.*'  # some steps only
  python -m tests.same_bits --base=106e02e --no-steps          # whole runs only

Each case of tests/same_bits/cases.py is lowered in both checkouts. Where the programs have the same
text, nothing is run; else steps are run, compiled as in training, and every array of the state and
every scalar is compared. Whole runs go through the command line: the working tree continues,
evaluates, predicts and exports runs that the revision began. Exits with status 1 if anything
differs.
"""

import argparse
import contextlib
import pathlib
import re
import sys
import tempfile
import time

import platformdirs

from tests.same_bits import cases, runs, steps
from tests.same_bits.sides import ROOT, Side, checkout

# Compiled programs, of both sides and all checkouts; a revision is compiled once on a machine.
_CACHE = pathlib.Path(platformdirs.user_cache_dir("alp_jax_same_bits"))


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.same_bits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--base", required=True, metavar="REV", help="Git revision to compare the working tree with"
    )
    parser.add_argument(
        "--cases", metavar="REGEX", help="Compare the cases whose whole name matches; default all"
    )
    parser.add_argument(
        "--steps", dest="num_steps", type=int, default=3, metavar="N", help="Steps to run (3)"
    )
    parser.add_argument(
        "--all", action="store_true", help="Run the steps of cases with the same program too"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="Compile steps without optimisation: a first look, faster and no proof",
    )
    parser.add_argument(
        "--no-steps", action="store_true", help="Leave out the steps, and compare whole runs only"
    )
    parser.add_argument(
        "--runs",
        action=argparse.BooleanOptionalAction,
        help="Compare whole runs through the command line; default yes, unless --cases is given",
    )
    parser.add_argument(
        "--keep", type=pathlib.Path, metavar="DIR", help="Write all files there, and keep them"
    )
    arguments = parser.parse_args(argv)
    if arguments.num_steps < 1:
        parser.error(f"--steps is {arguments.num_steps}: expected at least 1.")
    if arguments.runs is None:
        arguments.runs = arguments.cases is None
    return arguments


def select_cases(pattern: str | None) -> dict[str, cases.Case]:
    """Selects cases by a regular expression for the whole name.

    Raises:
      SystemExit: if no case matches.
    """
    table = cases.create_cases()
    chosen = {n: case for n, case in table.items() if re.fullmatch(pattern or ".*", n)}
    if not chosen:
        raise SystemExit(f"--cases={pattern} matches none of: {', '.join(table)}.")
    return chosen


def compare(arguments: argparse.Namespace, folder: pathlib.Path) -> list[steps.Verdict]:
    """Compares what the arguments select; all files go below `folder`, which is empty."""
    verdicts = []
    with checkout(arguments.base, folder / "checkout") as base_root:
        base, head = Side("base", base_root, _CACHE), Side("head", ROOT, _CACHE)
        if not arguments.no_steps:
            table = select_cases(arguments.cases)
            started = time.monotonic()
            comparison = steps.StepComparison(base, head, table, folder)
            verdicts += comparison.run(
                arguments.num_steps, run_all=arguments.all, quick=arguments.quick
            )
            print(f"Steps took {time.monotonic() - started:.0f} s.", flush=True)
        if arguments.runs:
            started = time.monotonic()
            verdicts += runs.compare_runs(base, head, folder / "runs")
            print(f"Runs took {time.monotonic() - started:.0f} s.", flush=True)
    return verdicts


def main() -> int:
    """Compares, prints a line for each case, and returns the exit status."""
    arguments = parse_arguments()
    with contextlib.ExitStack() as stack:
        folder = arguments.keep
        if folder is None:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        verdicts = compare(arguments, folder.resolve())
    width = max((len(verdict.name) for verdict in verdicts), default=0)
    for verdict in verdicts:
        print(f"{verdict.name:{width}}  {'' if verdict.is_same else 'DIFFERENT: '}{verdict.text}")
    different = [verdict.name for verdict in verdicts if not verdict.is_same]
    print(
        f"{len(verdicts)} compared, {len(different)} different"
        f"{': ' + ', '.join(different) if different else ''}."
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
