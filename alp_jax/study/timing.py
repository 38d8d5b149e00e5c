"""Measures how long runs take, and estimates the time that others will.

Synopsis:

  save(workdir, seconds=140.0, steps=500)      # timing.json
  estimate = Estimate(read_all(finished), stated=0.3)
  estimate.seconds([("alp_gi", 500), ("clan", 500)])
"""

import dataclasses
import datetime
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from alp_jax.errors import UserError
from alp_jax.study.runs import Run
from alp_jax.workdir import files

FILE_NAME = "timing.json"


def save(workdir: pathlib.Path, seconds: float, steps: int) -> None:
    """Writes how long `steps` steps of a run took, with its start and its evaluations."""
    if steps > 0:
        files.write_json(workdir / FILE_NAME, {"seconds": seconds, "steps": steps})


def read(workdir: pathlib.Path) -> float | None:
    """Reads the seconds a step of a run; None if they were not measured.

    Raises:
      UserError: if the file is damaged.
    """
    path = workdir / FILE_NAME
    try:
        fields = files.from_json(path.read_text())
        return float(fields["seconds"]) / int(fields["steps"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}): expected the time that a study measured; "
            "remove that file, which only estimates read."
        ) from error


def read_all(runs: Iterable[Run]) -> dict[str, list[float]]:
    """Reads the seconds a step of all measured runs, by method."""
    found: dict[str, list[float]] = {}
    for run in runs:
        seconds = read(run.workdir)
        if seconds is not None:
            found.setdefault(run.method, []).append(seconds)
    return found


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Estimate of the time that runs take.

    Attributes:
      measured: method -> seconds a step of each of its finished runs.
      stated: seconds a step before any run is finished.
    """

    measured: Mapping[str, Sequence[float]]
    stated: float

    def seconds(self, runs: Iterable[tuple[str, int]]) -> float:
        """Estimates the seconds of (method, steps) of runs.

        A method has the mean of its own runs; one that has none, that of all methods.
        """
        return sum(self._seconds_a_step(method) * steps for method, steps in runs)

    def _seconds_a_step(self, method: str) -> float:
        found = self.measured.get(method) or [s for own in self.measured.values() for s in own]
        return sum(found) / len(found) if found else self.stated

    def describe_source(self, file: str) -> str:
        """Says what the estimate rests on."""
        count = sum(map(len, self.measured.values()))
        if count:
            return f"from {count} finished run{'s' if count > 1 else ''}"
        return f"from {self.stated:g} s a step, the estimate in {file}"


def describe(seconds: float) -> str:
    """Formats a duration: 2:05:00, in whole seconds."""
    return str(datetime.timedelta(seconds=round(seconds)))
