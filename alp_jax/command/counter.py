"""Progress over many items: a bar, or log lines without a terminal.

Synopsis:

  with count("predicting", total=len(files)) as advance:
      for file in files:
          ...
          advance()
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

logger = logging.getLogger(__name__)

_LOG_EVERY_SECONDS = 30.0


@contextlib.contextmanager
def count(description: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Shows the number of finished items and the time left; yields a function that adds one item.

    Writes to stderr: a bar, or, if stderr is not a terminal, a log line every 30 seconds and the
    final state of the bar.

    Args:
      description: activity, shown before the numbers: "predicting".
      total: number of items; None if unknown.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    started = logged = time.monotonic()
    done = 0
    live = is_live(console)
    with Progress(*columns, console=console, disable=total == 0) as bar:
        task = bar.add_task(description, total=total)

        def advance() -> None:
            nonlocal done, logged
            done += 1
            bar.advance(task)
            now = time.monotonic()
            if not live and now - logged > _LOG_EVERY_SECONDS:
                logged = now
                rate = done / (now - started)
                left = "" if total is None else f" of {total}, {(total - done) / rate:.0f} s left"
                logger.info("%s: %d%s", description, done, left)

        yield advance


def is_live(console: Console) -> bool:
    """Returns whether the console can redraw a bar in place: a terminal or a notebook."""
    return console.is_terminal or console.is_jupyter
