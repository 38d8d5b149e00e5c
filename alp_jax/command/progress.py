"""Progress of training: a bar, or log lines without a terminal."""

import datetime
import logging
import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from alp_jax.command.counter import is_live

logger = logging.getLogger(__name__)


class TrainProgress:
    """Shows step, losses, images per second, fraction of time waiting for input, and time left.

    A sequence of runs shares one display, whose steps are the steps of all runs: each run gets a
    `PartProgress` of it.
    """

    def __init__(self, start_step: int, num_steps: int, shown: Mapping[str, str] | None = None):
        """Creates the display.

        Args:
          start_step, num_steps: steps done at the start, and at the end of the run.
          shown: name of a scalar -> short label, in the order of display.
        """
        self._start_step, self._num_steps = start_step, num_steps
        self._shown = shown or {}
        self._started = time.monotonic()
        self._bar: Progress | None = None
        console = Console()
        if is_live(console):
            self._bar = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=10),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=console,
            )
            self._task = self._bar.add_task(
                "train", total=num_steps, completed=start_step, status=""
            )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, step: int) -> None:
        """Moves the bar to a step."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def seconds_left(self, step: int) -> float:
        """Estimates the seconds left from the mean step time since the start."""
        done = max(step - self._start_step, 1)
        return (time.monotonic() - self._started) / done * (self._num_steps - step)

    def report(
        self, step: int, scalars: Mapping[str, float], seconds_left: float, label: str = ""
    ) -> None:
        """Shows the scalars of the last window of steps, after an optional label."""
        terms = [
            f"{short} {scalars[name]:.3f}" for name, short in self._shown.items() if name in scalars
        ]
        labels = [label] if label else []
        rate = f"{scalars['images_per_second']:.3g} images/s"
        waited = scalars.get("input_wait_fraction")
        waits = [] if waited is None else [f"input wait {waited:.0%}"]
        status = "  ".join([*labels, *terms, rate, *waits])
        if self._bar is not None:
            self._bar.update(self._task, completed=step, status=status)
        else:
            left = datetime.timedelta(seconds=int(seconds_left))
            logger.info("step %d/%d  %s  %s left", step, self._num_steps, status, left)


class PartProgress:
    """Shows one run of many in their common display; used in place of a `TrainProgress`."""

    def __init__(self, bar: TrainProgress, label: str, first_step: int):
        """Creates the share.

        Args:
          bar: display of all runs; the caller starts and stops it.
          label: name of this run.
          first_step: number of steps of all earlier runs.
        """
        self._bar, self._label, self._first_step = bar, label, first_step

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, step: int) -> None:
        """Moves the bar to a step of this run."""
        self._bar.advance(self._first_step + step)

    def report(self, step: int, scalars: Mapping[str, float], seconds_left: float) -> None:
        """Shows the scalars and the time left for all runs, including evaluation and saving."""
        del seconds_left
        done = self._first_step + step
        self._bar.report(done, scalars, self._bar.seconds_left(done), self._label)


class NoProgress(PartProgress):
    """Shows nothing, for a run in a process beside the one that shows the progress."""

    def __init__(self) -> None:
        """Creates no display."""

    def advance(self, step: int) -> None:
        """Does nothing."""

    def report(self, step: int, scalars: Mapping[str, float], seconds_left: float) -> None:
        """Does nothing."""
