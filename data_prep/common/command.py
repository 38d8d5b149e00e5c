"""Runs dataset commands: flags, user errors in one sentence, interruption and progress."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from absl import flags

from alp_jax.command import flag_values
from alp_jax.command.cli import EXIT_USER_ERROR, escape_what_cannot_be_shown
from alp_jax.command.counter import count
from alp_jax.errors import UserError, printable
from data_prep.common.workers import DEFAULT_WORKERS, MAX_WORKERS

EXIT_INTERRUPTED = 130


def define_flags(workers_help: str) -> flags.FlagValues:
    """Creates the flags that every command has, separate from absl's global flags.

    So several commands can run in one process.
    """
    values = flags.FlagValues()
    flags.DEFINE_string("data_dir", "datasets", "Where datasets are.", flag_values=values)
    flags.DEFINE_integer("workers", DEFAULT_WORKERS, workers_help, flag_values=values)
    flags.DEFINE_bool("help", False, "Show this help.", flag_values=values)
    return values


def parse(values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Parses the command line into the flags.

    Raises:
        UserError: if an argument is not a flag, the number of workers is out of range, or the name
            of the folder of datasets is not UTF-8.
        flags.Error: if a flag is unknown or its value cannot be parsed.
    """
    try:
        extra = values(list(argv))[1:]
    except flags.IllegalFlagValueError as error:
        wrong = flag_values.describe_wrong(values, argv[1:])
        raise UserError(wrong) if wrong else error from None
    if extra:
        raise UserError(f"{extra[0]!r} is not a flag: write --name=value.")
    try:
        values.data_dir.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"--data_dir is {printable(values.data_dir)}, which is not UTF-8, as names of files of "
            "records must be: give another folder."
        ) from None
    if not values.help and not 1 <= values.workers <= MAX_WORKERS:
        raise UserError(f"--workers is {values.workers}: expected 1 to {MAX_WORKERS}.")


def guard(run: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Runs a command; reports a user's error as one sentence on stderr.

    Returns:
        The exit status: the return value of `run`; 2 after wrong input; 130 when interrupted.
    """
    escape_what_cannot_be_shown()
    try:
        return run(argv)
    except (UserError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("Interrupted; no half dataset is left. Run again to continue.", file=sys.stderr)
        return EXIT_INTERRUPTED


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[], None]]:
    """Shows a bar with the time left on stderr; yields a function that advances it by one.

    Inside, SIGTERM raises KeyboardInterrupt like Ctrl-C, so that the command cleans up.
    """
    previous = signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        with count(description, total) as advance:
            yield advance
    finally:
        signal.signal(signal.SIGTERM, previous)


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
