"""Two processes of `jax.distributed` over loopback, two devices each, against one process."""

import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from alp_jax.command import configuration
from alp_jax.run import assembly, train
from alp_jax.workdir import checkpoint
from alp_jax.workdir.settings import build_settings
from tests import commands, tiny

# Writes the configuration that the processes are given, as a user would.
CONFIG = """
import pathlib
from tests import tiny

def get_config(variant=None):
    config = tiny.get_config(pathlib.Path({data_dir!r}))
    with config.unlocked():
        config.data.batch_size = 4
        config.evaluation.every_steps = 6
        config.optimizer.segmenter_learning_rate = 0.01
        config.mesh.data, config.mesh.space = {data}, {space}
    return config.lock()
"""


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(workdir, config_path, *flags: str, num_devices: int) -> subprocess.Popen:
    command = ["-m", "alp_jax.main", f"--config={config_path}", f"--workdir={workdir}", *flags]
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=commands.ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(num_devices), "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def write_config(folder, data_dir, data: int, space: int):
    path = folder / f"config_{data}_{space}.py"
    path.write_text(CONFIG.format(data_dir=str(data_dir), data=data, space=space))
    return path


def restore(workdir, data_dir, step: int):
    setup = assembly.create_setup(build_settings(tiny.get_config(data_dir)))
    like = jax.eval_shape(lambda: assembly.create_train_state(setup, jax.random.key(0)))
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        return jax.device_get(checkpoints.restore(step, like=like))


def train_here(workdir, config_path, *flags: str) -> None:
    """Trains in this process, on its first device."""
    train.train_and_evaluate(configuration.read_config(str(config_path), "", flags), workdir)


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    """Workdirs of the same run, of one process and of two, and what these two printed."""
    folder = tmp_path_factory.mktemp("processes")
    alone, together = folder / "alone", folder / "together"
    config_path = write_config(folder, data_dir, 2, 2)
    port = find_free_port()
    processes = [
        start(
            together,
            config_path,
            "--distributed",
            f"--coordinator=127.0.0.1:{port}",
            "--num_processes=2",
            f"--process_id={i}",
            num_devices=2,
        )
        for i in range(2)
    ]
    train_here(alone, write_config(folder, data_dir, 1, 1))
    return alone, together, [finish(process) for process in processes]


def test_two_processes_train_as_one_does(runs, data_dir):
    alone, together, _ = runs
    expected, found = (restore(workdir, data_dir, 6) for workdir in (alone, together))

    def compare(actual, wanted):
        scale = max(float(np.abs(wanted).max()), 1e-6)
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=2e-5 * scale)

    jax.tree.map(compare, found, expected)


def test_one_process_writes(runs):
    _, together, (first, second) = runs
    assert "mean IoU" in first
    assert "4 x cpu; 2 share the images of a batch, 2 the rows of an image" in first
    assert "mean IoU" not in second
    lines = [(run / "metrics.jsonl").read_text().splitlines() for run in (together, runs[0])]
    assert len(lines[0]) == len(lines[1])


def test_one_process_goes_on_where_two_stopped(runs, data_dir, tmp_path, caplog):
    """Orbax restores on another number of devices and of processes."""
    _, together, _ = runs
    with caplog.at_level("INFO"):
        train_here(together, write_config(tmp_path, data_dir, 1, 1), "--config.num_steps=7")
    assert "from step 6" in caplog.text
    assert int(restore(together, data_dir, 7).step) == 7
