"""Runs a command: parses flags, sets up logging, and reports a user's error in one sentence.

Synopsis:

  if __name__ == "__main__":
      cli.run(main)
"""

import atexit
import gc
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

import platformdirs
from absl import app, flags

from alp_jax.command import configuration, stopping
from alp_jax.errors import Stopped, UserError
from alp_jax.settings import kinds

EXIT_INCOMPLETE = 1  # Some items failed and were reported; the others are done.
EXIT_USER_ERROR = 2
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: try again.

# Environment variables that libraries read at import; values set by the user take precedence.
_ENVIRONMENT = {
    # XLA prints a box that asks for a bug report when it compiles for two minutes, which a full
    # network takes.
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # Compiled programs are kept for the next run.
    "JAX_COMPILATION_CACHE_DIR": platformdirs.user_cache_dir("alp_jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    # Largest image that OpenCV decodes, since a small file can unpack to any size; Pillow has such
    # a limit by default.
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 27),
}

_HELP = re.compile(r"--?(help|helpshort|helpfull|helpxml|\?)(=.*)?")

# Threshold of Python's cyclic garbage collector: allocations minus deallocations.
_COLLECT_AFTER = 50_000


def set_environment() -> None:
    """Sets environment variables that libraries read at import, unless the user has set them."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def allow_pixels(number: int) -> None:
    """Lets OpenCV decode images of so many pixels; call it before OpenCV is imported."""
    name = "OPENCV_IO_MAX_IMAGE_PIXELS"
    os.environ[name] = str(max(number, int(os.environ.get(name, _ENVIRONMENT[name]))))


def run(main: Callable[[], int | None]) -> None:
    """Parses the flags, runs `main` and exits.

    Exit status: the return value of `main` (None is 0); EXIT_USER_ERROR after a UserError, with its
    sentence on stderr; EXIT_STOPPED after SIGTERM or SIGINT (Ctrl-C): the same command then
    continues. A second signal kills the process at once, by the signal's default action. An
    exception in a user's own term, view or network is told in one sentence, with file and line. Any
    other exception is a bug and keeps its traceback.
    """
    set_environment()
    collect_garbage_rarely()

    def guarded(argv: Sequence[str]) -> int | None:
        escape_what_cannot_be_shown()
        _configure_logging()
        if len(argv) > 1:
            _fail(f"Unexpected argument {argv[1]!r}: every option is a flag, --name=value.")
        try:
            with stopping.StopRequest():
                return main()
        except UserError as error:
            _fail(str(error).partition("\n")[0])  # Grain adds lines to errors that pass through it.
        except Stopped as stopped:
            print(stopped, file=sys.stderr, flush=True)
            sys.stdout.flush()
            # Not sys.exit: the signal may have interrupted a library that was starting a thread,
            # and Python would wait for that thread forever.
            os._exit(EXIT_STOPPED)
        except Exception as error:
            own_fault = kinds.describe_own_fault(error)
            if own_fault is None:
                raise
            _fail(own_fault)

    try:
        app.run(guarded, flags_parser=_parse_flags)
    except SystemExit as end:
        # So absl ends after its help.
        if end.code == 1 and any(map(_HELP.fullmatch, sys.argv[1:])):
            sys.exit(0)
        raise
    except BrokenPipeError:  # Of `--help | head`, say: nobody reads on.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_INCOMPLETE)


def set_up_notebook() -> None:
    """Sets a notebook up like a command: only our log lines, and the compilation cache.

    Call it before anything else: JAX reads the environment at import.
    """
    set_environment()
    _configure_logging("stdout")  # Jupyter shows stderr as if it were an error.


def collect_garbage_rarely() -> None:
    """Makes Python's cyclic garbage collector run rarely, which saves a sixth of a short run.

    Each collection walks over the million objects that imports leave behind. Arrays are in no
    reference cycles, so their memory is still freed at once. At exit nothing is collected.
    """
    gc.set_threshold(_COLLECT_AFTER)
    atexit.register(gc.freeze)


def escape_what_cannot_be_shown() -> None:
    """Lets names with any characters be printed, whatever encoding the terminal has."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # Not what replaces it in a notebook or a test.
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(EXIT_USER_ERROR)


def _configure_logging(stream: str = "stderr") -> None:
    """Logs our own messages at INFO, and those of libraries (all use absl) only at ERROR."""
    # `force` also replaces the handler of absl that app.run installs.
    logging.basicConfig(
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        level=logging.WARNING,
        handlers=[_SystemHandler(stream)],
        force=True,
    )
    logging.getLogger("alp_jax").setLevel(logging.INFO)
    logging.getLogger("__main__").setLevel(logging.INFO)
    logging.getLogger("absl").setLevel(logging.ERROR)
    # A library that logs an exception with its traceback also raises it, and we report it then.
    logging.getLogger("absl").addFilter(lambda record: not record.exc_info)
    # When several writes of a save fail, Orbax raises one error, and asyncio logs the others.
    logging.getLogger("asyncio").addFilter(
        lambda record: "exception was never retrieved" not in record.getMessage()
    )
    sys.unraisablehook = _report_unraisable


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Drops errors of TensorStore writes that end after their save has failed, as on a full disk.

    Such a write reports to Orbax's event loop, which is closed by then. The failure of the save
    itself is raised and reported.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


class _SystemHandler(logging.StreamHandler):
    """Writes to the current sys.stderr or sys.stdout, which a progress bar replaces while shown."""

    def __init__(self, name: str):
        """Creates the handler of sys.stderr or sys.stdout."""
        super().__init__()
        self._name_of_stream = name

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line."""
        self.stream = getattr(sys, self._name_of_stream)
        super().emit(record)


def _parse_flags(argv: Sequence[str]) -> list[str]:
    try:
        return configuration.parse(flags.FLAGS, configuration.split(argv)[0])
    except UserError as error:
        _fail(str(error))


def list_lone_overrides() -> list[str]:
    """Lists the command's flags --config.FIELD=VALUE, if it has no --config."""
    return configuration.split(sys.argv)[1]


def check_overrides() -> None:
    """Refuses flags --config.FIELD=VALUE without --config.

    Raises:
      UserError: naming the first flag.
    """
    for flag in list_lone_overrides()[:1]:
        raise UserError(
            f"{flag} overrides a field of no configuration: also give --config=FILE:VARIANT."
        )


def check_flags_of_mode(mode: str, modes_of_flags: Mapping[str, Collection[str]]) -> None:
    """Refuses flags that a mode would ignore.

    Args:
      mode: value of --mode.
      modes_of_flags: flag -> the modes that read it; flags that are not listed are read by all.
    Raises:
      UserError: naming the flag and the modes that read it.
    """
    overrides = {flag.partition("=")[0]: modes_of_flags["config"] for flag in list_lone_overrides()}
    given = {f"--{n}": modes for n, modes in modes_of_flags.items() if flags.FLAGS[n].present}
    for flag, modes in (given | overrides).items():
        if mode not in modes:
            expected = " or ".join(f"--mode={each}" for each in modes)
            raise UserError(f"{flag} is given with --mode={mode}: expected {expected}.")


def parse_numbers(
    name: str, values: Sequence[str] | None, number: type[float] | type[int]
) -> tuple[Any, ...] | None:
    """Parses the values of a list flag as numbers; returns None if the flag was not given.

    Raises:
      UserError: naming the flag, if a value is not a number.
    """
    if values is None:
        return None
    try:
        return tuple(number(value) for value in values)
    except ValueError:
        expected = "whole numbers" if number is int else "numbers"
        raise UserError(
            f"--{name} is {','.join(values)!r}: expected {expected} with commas between them."
        ) from None
