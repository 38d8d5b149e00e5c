"""Commands as a user gives them: in a process of their own, or in this one, which is cheaper."""

import contextlib
import gc
import importlib
import io
import logging
import os
import pathlib
import runpy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from unittest import mock

from absl import app, flags

ROOT = pathlib.Path(__file__).parents[1]


def run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module` in the root of the project, and waits."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def call(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the same in this process: the command's own code, without its imports.

    Flags, log handlers, the environment and the working directory are as before afterwards.

    Raises:
      Exception: what `python -m module` would show with a traceback.
    """
    stdout, stderr = io.StringIO(), io.StringIO()
    command = [module, *map(str, arguments)]
    status: object = 0
    with (
        _own_flags(),
        _own_logging(),
        contextlib.chdir(ROOT),
        mock.patch.object(sys, "argv", command),
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "unraisablehook", sys.unraisablehook),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        warnings.catch_warnings(),
    ):
        # A test may have imported the module, too.
        warnings.filterwarnings("ignore", ".*found in sys.modules after import", RuntimeWarning)
        threshold = gc.get_threshold()
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as exit_:
            status = exit_.code
        finally:
            gc.set_threshold(*threshold)
    returncode = status if isinstance(status, int) else int(status is not None)
    return subprocess.CompletedProcess(command, returncode, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def _own_flags() -> Iterator[None]:
    """Forgets the flags that are defined inside."""
    app.define_help_flags()  # absl defines them once per process.
    importlib.import_module("grain")  # As grain does with its own, when it is first imported.
    before = set(flags.FLAGS)
    try:
        yield
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)


@contextlib.contextmanager
def _own_logging() -> Iterator[None]:
    """Puts back what a command changes of logging, and of pytest's own handlers."""
    loggers = [logging.getLogger(name) for name in (None, "alp_jax", "__main__", "absl", "asyncio")]
    kept = [(each.handlers, each.filters, each.level) for each in loggers]
    for each, (handlers, filters, _) in zip(loggers, kept, strict=True):
        each.handlers, each.filters = [] if each is loggers[0] else [*handlers], [*filters]
    try:
        yield
    finally:
        for each, (handlers, filters, level) in zip(loggers, kept, strict=True):
            each.handlers, each.filters = handlers, filters
            each.setLevel(level)


def read_error(done: subprocess.CompletedProcess[str]) -> str:
    """Returns the one sentence that a command ended in, which was given wrong input."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return error.removeprefix("error: ")
