"""Signals: what a training does with the first and the second, and the lock on a workdir."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from alp_jax.command import stopping
from alp_jax.errors import Stopped, UserError
from alp_jax.workdir import locks
from tests.commands import ROOT


def wait_for_a_signal(number: signal.Signals) -> None:
    with stopping.StopRequest():
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        except Exception:
            raise AssertionError("What handles errors took it for one.") from None


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_a_signal_ends_what_can_be_ended_at_once(number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=rf"^Stopped by {number.name}; the same command continues\.$"):
        wait_for_a_signal(number)
    assert signal.getsignal(number) is before


def test_a_signal_waits_for_the_end_of_a_step_and_ends_an_evaluation(capfd):
    with stopping.StopRequest() as stop, stop.deferred():
        assert stop.signal is None
        with stop.at_once():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal is signal.SIGTERM
        with pytest.raises(Stopped), stop.at_once():
            raise AssertionError("A signal that was noted before ends it as well.")
    assert "Finishing this step and saving it" in capfd.readouterr().err


SECOND = """
import os, signal, time
from alp_jax.command import stopping
with stopping.StopRequest() as stop, stop.deferred():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.{name})
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_second_signal_ends_the_process_at_once(name):
    done = subprocess.run(
        [sys.executable, "-c", SECOND.format(name=name)], cwd=ROOT, timeout=50, check=False
    )
    assert done.returncode == -signal.Signals[name]


HOLD = """
import pathlib, sys, time
from alp_jax.workdir import locks
with locks.hold(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_with_the_pid_of_the_first(tmp_path):
    workdir = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(workdir)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        holder = rf"in use by process {process.pid} on {socket.gethostname()}: wait for it"
        with pytest.raises(UserError, match=holder), locks.hold(workdir):
            raise AssertionError("It was let in.")
        process.kill()
    assert (workdir / locks.FILE_NAME).exists()  # What a killed process leaves locks nobody out.
    with locks.hold(workdir):
        with pytest.raises(UserError, match=f"process {os.getpid()} "), locks.hold(workdir):
            raise AssertionError("It was let in.")
        (workdir / "file").touch()
    assert [path.name for path in workdir.iterdir()] == ["file"]


def test_a_workdir_in_which_nothing_was_written_is_removed(tmp_path):
    with locks.hold(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_a_lock_cannot_be_where_a_file_is(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"Cannot write to the workdir .* \(.*\): give a --workdir"),
        locks.hold(tmp_path / "file"),
    ):
        raise AssertionError("It was let in.")
