"""What every command shares: flags, log lines, and errors that end in one sentence.

Synopsis:

  if __name__ == "__main__":
      cli.run(main)
"""

import atexit
import difflib
import gc
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import ml_collections
import platformdirs
from absl import app, flags
from ml_collections import config_flags

from alp_jax.command import stopping
from alp_jax.errors import Stopped, UserError, describe

EXIT_INCOMPLETE = 1  # Something was left out, and said; the rest is done.
EXIT_USER_ERROR = 2
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: try again.

# What the libraries read when they are imported, where the user has not set it.
_ENVIRONMENT = {
    # TensorFlow only writes event files here; it announces oneDNN at every start.
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    # Compiled programs are kept for the next run.
    "JAX_COMPILATION_CACHE_DIR": platformdirs.user_cache_dir("alp_jax"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    # Of an image in a record, for a small file can unpack to any size; Pillow has such a limit.
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 27),
}

# What Python writes before the message of an error that a configuration file may raise.
_ERROR_NAME = re.compile(r"^(ValueError|TypeError|[\w.]+\.UserError): ")

# Objects made, less those freed, before Python looks for cycles among them.
_COLLECT_AFTER = 50_000


def set_environment() -> None:
    """Sets what the libraries read when they are imported, where the user has not."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def run(main: Callable[[], int | None]) -> None:
    """Parses the flags, runs `main` and exits.

    Exit status: what `main` returns (None is 0); EXIT_USER_ERROR with the error's one sentence on
    stderr; EXIT_STOPPED after SIGTERM or SIGINT (Ctrl-C), when the same command goes on. A second
    signal ends the process at once, as if nobody had caught it. Any other exception is a bug and
    keeps its traceback.
    """
    set_environment()
    collect_garbage_rarely()

    def guarded(argv: Sequence[str]) -> int | None:
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
            # Not by sys.exit: the signal may have come while a library was starting a thread, and
            # Python would wait for that one forever.
            os._exit(EXIT_STOPPED)

    app.run(guarded, flags_parser=_parse_flags)


def set_up_notebook() -> None:
    """Makes a notebook as quiet as a command: our log lines only; compiled programs are kept.

    To be called before anything else, since JAX and TensorFlow read the environment when they are
    imported.
    """
    set_environment()
    _configure_logging("stdout")  # What goes to stderr is shown as if it were a fault.


def collect_garbage_rarely() -> None:
    """Spares Python walks over the million objects that imports leave: a sixth of a short run.

    Arrays are in no cycles, so that their memory is given back all the same. At the end there is
    nothing to collect for.
    """
    gc.set_threshold(_COLLECT_AFTER)
    atexit.register(gc.freeze)


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(EXIT_USER_ERROR)


def _configure_logging(stream: str = "stderr") -> None:
    """Our own lines at INFO; those of the libraries (all log through absl) only when they fail."""
    # absl's own handler, which app.run installs, is replaced too.
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
    # A library that logs an exception with its traceback raises it as well, and we report that.
    logging.getLogger("absl").addFilter(lambda record: not record.exc_info)
    # Of a save's writes that fail, Orbax raises one; asyncio logs the others when it frees them.
    logging.getLogger("asyncio").addFilter(
        lambda record: "exception was never retrieved" not in record.getMessage()
    )
    sys.unraisablehook = _report_unraisable


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Leaves out what TensorStore still wrote when the save was given up, as on a full disk.

    It tells Orbax's event loop, which is closed by then; the failure itself is raised, and said.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


class _SystemHandler(logging.StreamHandler):
    """Writes to what sys.stderr is at the time: a progress bar replaces it to stay in one piece."""

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
        return _parse(flags.FLAGS, argv)
    except UserError as error:
        _fail(str(error))


def read_config(
    path: str, variant: str, overrides: Sequence[str] = ()
) -> ml_collections.ConfigDict:
    """Reads a configuration as the flags --config=PATH:VARIANT and `overrides` would.

    Args:
      path: of a Python file with get_config(variant).
      variant: that it is asked for.
      overrides: "--config.FIELD=VALUE".
    Raises:
      UserError: if the file, the variant, a field or a value is wrong.
    """
    values = flags.FlagValues()
    argv = ["", f"--config={path}:{variant}", *overrides]
    config_flags.DEFINE_config_file("config", None, "", flag_values=values, sys_argv=argv)
    _parse(values, argv)
    return values.config


def _parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    try:
        remaining = values(argv)
        if "config" in values and values.config is not None:
            values.config.is_locked  # noqa: B018  A file that could not be read raises here.
        return remaining
    except flags.Error as error:
        # ml_collections puts the whole traceback of a config file into the message: its last line
        # is "ValueError: what is wrong".
        *_, last_line = str(error).strip().splitlines()
        raise UserError(_ERROR_NAME.sub("", last_line)) from error
    except OSError as error:
        raise UserError(
            f"The configuration {_config_path(argv)} cannot be read: expected a Python file such "
            "as configs/toy_cities.py, or configs/toy_cities.py:VARIANT."
        ) from error
    except (AttributeError, KeyError) as error:  # A field, or a block, that there is not.
        try:
            config = values["config"].parser.parse(_config_path(argv))
        except Exception:  # The file itself raises it.
            raise UserError(_describe_broken_file(_config_path(argv), error)) from error
        overrides = [a.removeprefix("--config.") for a in argv if a.startswith("--config.")]
        raise UserError(_describe_unknown_field(config, overrides, error)) from error
    except Exception as error:  # It is the user's own code.
        raise UserError(_describe_broken_file(_config_path(argv), error)) from error


def parse_numbers(
    name: str, values: Sequence[str] | None, number: type[float] | type[int]
) -> tuple[Any, ...] | None:
    """Reads the numbers of a list flag; None where it is not given.

    Raises:
      UserError: naming the flag, if one is no number.
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


def _config_path(argv: Sequence[str]) -> str:
    given = [a.removeprefix("--config=") for a in argv if a.startswith("--config=")]
    return given[-1] if given else "(none given)"


def _describe_broken_file(path: str, error: Exception) -> str:
    file = path.partition(":")[0]
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    where = f", line {lines[-1]}" if lines else ""
    return f"The configuration {file} cannot be read{where} ({describe(error)}): mend that file."


def _describe_unknown_field(config: Any, overrides: list[str], error: Exception) -> str:
    for override in overrides:
        path = override.split("=")[0].split(".")
        node = config
        for depth, key in enumerate(path):
            if not isinstance(node, ml_collections.ConfigDict):
                field = ".".join(["config", *path[:depth]])
                return f"--config.{override} is of no field: {field} is a value, not a block."
            if key not in node:
                prefix = ".".join(["config", *path[:depth]])
                close = difflib.get_close_matches(key, list(node), n=1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                return (
                    f"Unknown field {prefix}.{key}{hint}: {prefix} has {', '.join(sorted(node))}."
                )
            node = node[key]
    return f"The configuration cannot be read: {error}."
