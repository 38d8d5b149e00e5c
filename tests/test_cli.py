"""The command as a user gives it, in processes of its own where the process is the subject."""

import json
import shutil
import subprocess
import sys

import pytest

from tests import tiny
from tests.commands import ROOT, call, read_error, run_module
from tests.faults import command

CONFIG = "--config=configs/toy_cities.py"


def test_a_user_trains_and_resumes(data_dir, tmp_path, monkeypatch):
    """Optimised as a user's programs are, and kept in the user's cache."""
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = command.write_config(tmp_path, data_dir)
    arguments = [config, f"--workdir={tmp_path / 'run'}"]
    result = run_module("alp_jax.main", *arguments, "--config.num_steps=3")
    assert result.returncode == 0, result.stderr
    assert "step 3/3" in result.stderr  # Plain lines, as the output is no terminal.
    assert "mean IoU" in result.stdout
    kept = [path.name for path in (tmp_path / "cache" / "alp_jax").glob("*-cache")]
    assert any(name.startswith("jit_train_step") for name in kept), kept

    result = run_module("alp_jax.main", *arguments)
    assert result.returncode == 0, result.stderr
    assert "from step 3" in result.stderr
    assert "step 6/6" in result.stderr
    # No library's log lines beside ours.
    assert not [line for line in result.stderr.splitlines() if "orbax" in line.lower()]


def test_a_cache_that_cannot_be_written_stops_nothing(saved_run, tmp_path, monkeypatch):
    shutil.copytree(saved_run, tmp_path / "run")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/dev/null/cache")
    arguments = ["--mode=evaluate", f"--workdir={tmp_path / 'run'}", "--split=test"]
    result = run_module("alp_jax.main", *arguments)
    assert result.returncode == 0, result.stderr
    scores = json.loads((tmp_path / "run" / "evaluation" / "step_6_test.json").read_text())
    assert scores["num_images"] == tiny.NUM_EVAL


def test_wrong_input_ends_in_one_sentence(tmp_path):
    """tests/test_bad_input.py has all that can be wrong."""
    arguments = [f"{CONFIG}:alp", f"--workdir={tmp_path / 'run'}"]
    assert "Unknown variant 'alp' (did you mean alp_gi?): expected one" in read_error(
        run_module("alp_jax.main", *arguments)
    )
    assert not (tmp_path / "run").exists()


COMMANDS = ("alp_jax.main", *(f"alp_jax.{n}.__main__" for n in ("study", "domain_shift", "export")))


def test_commands_import_no_jax_before_the_environment_is_set():
    """Nor before wrong flags are refused, as its import takes seconds."""
    script = (
        "import importlib, sys\n"
        "from absl import flags\n"
        f"for name in {COMMANDS}:\n"
        "    before = set(flags.FLAGS)\n"
        "    importlib.import_module(name)\n"
        "    for flag in set(flags.FLAGS) - before:\n"
        "        delattr(flags.FLAGS, flag)\n"
        "    assert not {'jax', 'tensorflow', 'numpy'} & set(sys.modules), name\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("module", "named"),
    [
        ("alp_jax.main", ("--config", "--workdir", "--mode", "--checkpoint", "--split", "--flip")),
        ("alp_jax.study", ("--config", "--methods", "--seeds", "--sweep", "--starts")),
        ("alp_jax.domain_shift", ("--config", "--output")),
        ("alp_jax.export", ("--workdir", "--output", "--label_size")),
        ("data_prep.convert_weights", ("--input", "--output", "--prefix")),
    ],
)
def test_help_names_the_flags(module, named):
    result = call(module, "--help")
    assert all(flag in result.stdout for flag in named)
    assert result.returncode == 0


def test_an_averaged_prediction_has_files_of_its_own(trained_run, source_only_run, tmp_path):
    shutil.copytree(trained_run.workdir, tmp_path / "run")
    result = call(
        "alp_jax.main",
        "--mode=evaluate",
        f"--workdir={tmp_path / 'run'}",
        "--flip",
        f"--ensemble={source_only_run.workdir}",
        "--ensemble_weights=3,1",
    )
    assert result.returncode == 0, result.stderr
    name = source_only_run.workdir.name
    path = tmp_path / "run" / "evaluation" / f"step_6_with_{name}_6_weights3-1_flip.json"
    inference = json.loads(path.read_text())["inference"]
    assert inference["flip"]
    assert [member["weight"] for member in inference["ensemble"]] == [0.75, 0.25]


WRITES = """
import asyncio, logging, sys, tensorstore
from alp_jax.command import cli

async def fail():
    raise ValueError("a write failed")

async def save():
    asyncio.gather(fail())
    await asyncio.sleep(0.01)

async def wait_for(future):
    asyncio.ensure_future(asyncio.wait_for(future, None))
    await asyncio.sleep(0.01)

def end_after_its_loop():
    promise, future = tensorstore.Promise.new()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(wait_for(future))
    loop.close()
    promise.set_result(1)

logging.basicConfig()
asyncio.run(save())  # As Python tells it.
cli.set_up_notebook()
asyncio.run(save())
end_after_its_loop()
promise, future = tensorstore.Promise.new()
future.add_done_callback(lambda _: 1 / 0)
promise.set_result(1)
sys.unraisablehook = sys.__unraisablehook__
end_after_its_loop()
"""


def test_writes_that_fail_or_end_late_are_not_told_beside_the_error_that_is_raised():
    done = subprocess.run(
        [sys.executable, "-c", WRITES],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.count("exception was never retrieved") == 1
    assert "ZeroDivisionError" in done.stdout
    assert done.stdout.count("RuntimeError: Event loop is closed") == 1  # Python's own hook.
