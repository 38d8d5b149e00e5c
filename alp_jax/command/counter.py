"""How far the work on many things is: a bar, or log lines where there is no terminal.

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
    """Shows how many of many things are done, and the time left; yields what counts one more.

    On stderr: a bar, or, where that is no terminal, a log line every half minute and the bar as it
    is at the end.

    Args:
      description: of what is done, before the numbers: "predicting".
      total: of all; None if nobody knows.
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
    """Whether a bar can be drawn anew in its place: in a terminal or a notebook."""
    return console.is_terminal or console.is_jupyter
