"""The training command on the tiny dataset, to be killed: as a user starts it, or forked.

A forked one runs the same code with the same signals; it only spares the imports, which take most
of the time of a short run.
"""

import contextlib
import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess

from tests.commands import ROOT


def write_config(folder: pathlib.Path, data_dir: pathlib.Path) -> str:
    """Writes a configuration of the tiny run; returns its flag."""
    path = folder / "tiny_config.py"
    path.write_text(
        "import pathlib\n"
        "from tests import tiny\n\n\n"
        "def get_config(variant='alp_gi'):\n"
        f"    return tiny.get_config(pathlib.Path({str(data_dir)!r}), variant)\n"
    )
    return f"--config={path}"


class Started:
    """A command that was started.

    Attributes:
      pid: of its process.
    """

    def __init__(self, process: "subprocess.Popen[bytes] | BaseProcess", log: pathlib.Path):
        self._process, self._log = process, log
        assert process.pid is not None
        self.pid = process.pid

    def wait(self, timeout_seconds: float) -> int | None:
        """Waits; the exit status (negative: that of a signal), or None if it still runs."""
        if isinstance(self._process, subprocess.Popen):
            try:
                return self._process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                return None
        self._process.join(timeout_seconds)
        return self._process.exitcode

    def kill(self, number: int) -> None:
        """Sends a signal, unless it is over."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def read_log(self) -> str:
        """What it wrote to stdout and stderr so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def start(arguments: Sequence[str], log: pathlib.Path) -> Started:
    """Starts `python -m alp_jax.main ARGUMENTS` as a user does."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "alp_jax.main", *arguments],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return Started(process, log)


def fork(
    arguments: Sequence[str], log: pathlib.Path, *, module: str = "alp_jax.main", uid: int = 0
) -> Started:
    """Starts the same from a process that has imported everything, and nothing else.

    Args:
      arguments: of the command.
      log: where stdout and stderr go.
      module: of the command.
      uid: user to run as, where the caller is root; 0 changes nothing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.preload"])
    process = context.Process(target=_run, args=(module, list(arguments), str(log), uid))
    process.start()
    return Started(process, log)


def _run(module: str, arguments: list[str], log: str, uid: int) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.chdir(ROOT)
    if uid:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def run(
    arguments: Sequence[str], log: pathlib.Path, *, module: str = "alp_jax.main", uid: int = 0
) -> tuple[int, str]:
    """Forks, waits, and returns exit status and output."""
    started = fork(arguments, log, module=module, uid=uid)
    status = started.wait(300)
    assert status is not None, started.read_log()
    return status, started.read_log()


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Waits for a condition, looking often."""
    end = time.monotonic() + timeout_seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.002)
    return False
