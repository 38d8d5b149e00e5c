"""The command as a user runs it: exit status, one sentence, no traceback."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests import tiny
from tests.commands import ROOT, run_module


def run_main(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_module("alp_jax.main", *arguments)


CONFIG = "--config=configs/toy_cities.py"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([f"{CONFIG}:alp"], "Unknown variant 'alp': expected one of source_only, target_bn, ap_ci"),
        (["--config=configs/nothing.py"], "configs/nothing.py cannot be read: expected a"),
        (
            [CONFIG, "--config.data.batchsize=2"],
            "Unknown field config.data.batchsize (did you mean",
        ),
        ([CONFIG, "--config.sed=2"], "Unknown field config.sed (did you mean seed?)"),
        ([CONFIG, "--config.num_steps=many"], "--config.num_steps=many"),
        ([CONFIG, "--mode=trian"], "trian"),
        ([CONFIG, "--steps=3"], "Unknown command line flag 'steps'"),
        ([CONFIG, "extra"], "Unexpected argument 'extra'"),
        ([], "Training needs --config"),
        ([CONFIG, "--config.objective.patch_size=128,128"], "inside the source map of 64x128"),
        ([CONFIG, "--config.objective.patch_size=16,16"], "expected at least 32x32"),
        ([CONFIG, "--config.data.data_dir=/nowhere"], "No prepared dataset at /nowhere/toy"),
        (["--mode=evaluate"], "No run in"),
        (["--mode=predict"], "Predicting needs --input"),
    ],
)
def test_wrong_input_ends_in_one_sentence(tmp_path, arguments, message):
    result = run_main(f"--workdir={tmp_path / 'run'}", *arguments)
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert message in errors[0]
    assert "Traceback" not in result.stdout + result.stderr
    assert not (tmp_path / "run").exists()


def test_the_workdir_is_required():
    result = run_main(CONFIG)
    assert result.returncode == 2
    assert "--workdir" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_names_the_flags_and_exits():
    result = run_main("--help")
    for flag in ("--config", "--workdir", "--mode", "--checkpoint", "--split"):
        assert flag in result.stdout


def write_config(folder: pathlib.Path, data_dir: pathlib.Path) -> pathlib.Path:
    """A configuration file of the tiny run."""
    config_file = folder / "tiny_config.py"
    config_file.write_text(
        "import pathlib\nfrom tests import tiny\n\n"
        "def get_config():\n"
        f"  return tiny.get_config(pathlib.Path({str(data_dir)!r}))\n"
    )
    return config_file


def test_a_corrupt_record_ends_in_one_sentence(data_dir, tmp_path):
    shutil.copytree(data_dir / "tiny", tmp_path / "tiny")
    (records,) = (tmp_path / "tiny" / "source" / "1.0.0").glob("*train*array_record*")
    data = bytearray(records.read_bytes())
    data[100:-1000] = bytes(len(data) - 1100)
    records.write_bytes(data)
    config_file = write_config(tmp_path, tmp_path)
    result = run_main(f"--config={config_file}", f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert "tiny/source:train" in errors[0]
    assert "prepare the dataset again" in errors[0]
    assert "array_record" in errors[0]
    assert "Traceback" not in result.stderr


def test_train_resume_and_evaluate_by_command(data_dir, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_DISABLE_MOST_OPTIMIZATIONS")
    config_file = write_config(tmp_path, data_dir)
    workdir = tmp_path / "run"
    flags = [f"--config={config_file}", f"--workdir={workdir}"]
    result = run_main(*flags, "--config.num_steps=3")
    assert result.returncode == 0, result.stderr
    assert "step 3/3" in result.stderr  # Plain lines, as the output is no terminal.
    assert "mean IoU" in result.stdout

    result = run_main(*flags, "--config.seed=1")
    assert result.returncode == 2
    assert "holds another run: config.seed is 0 there and 1 here" in result.stderr

    result = run_main(*flags)
    assert result.returncode == 0, result.stderr
    assert "from step 3" in result.stderr
    assert "step 6/6" in result.stderr

    result = run_main("--mode=evaluate", f"--workdir={workdir}", "--split=test")
    assert result.returncode == 0, result.stderr
    scores = json.loads((workdir / "evaluation" / "step_6_test.json").read_text())
    assert scores["num_images"] == tiny.NUM_EVAL
    # No library's log lines beside ours.
    assert not [line for line in result.stderr.splitlines() if "orbax" in line.lower()]


@pytest.fixture
def tiny_config(tmp_path, data_dir):
    return f"--config={write_config(tmp_path, data_dir)}"


# Neither target nor discriminator, which are most of what is compiled.
SOURCE_ONLY = ("--config.num_steps=1", "--config.objective.use_target=False")


def test_compiled_programs_are_kept_in_the_users_cache(tmp_path, tiny_config, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    result = run_main(tiny_config, *SOURCE_ONLY, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    kept = [path.name for path in (tmp_path / "cache" / "alp_jax").glob("*-cache")]
    assert any(name.startswith("jit_train_step") for name in kept), kept


def test_a_cache_that_cannot_be_written_does_not_stop_a_run(tmp_path, tiny_config, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/dev/null/cache")
    result = run_main(tiny_config, *SOURCE_ONLY, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "evaluation" / "step_1.json").exists()


FAILED_WRITES = """
import asyncio, logging
from alp_jax import cli

async def fail():
    raise ValueError("a write failed")

async def save():
    asyncio.gather(fail())
    await asyncio.sleep(0.01)

logging.basicConfig()
asyncio.run(save())  # As Python tells it.
cli.set_up_notebook()
asyncio.run(save())
"""

LATE_WRITE = """
import asyncio, sys, tensorstore
from alp_jax import cli

async def wait_for(future):
    asyncio.ensure_future(asyncio.wait_for(future, None))
    await asyncio.sleep(0.01)

def end_after_its_loop():
    promise, future = tensorstore.Promise.new()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(wait_for(future))
    loop.close()
    promise.set_result(1)

cli.set_up_notebook()
end_after_its_loop()
promise, future = tensorstore.Promise.new()
future.add_done_callback(lambda _: 1 / 0)
promise.set_result(1)
sys.unraisablehook = sys.__unraisablehook__
end_after_its_loop()
"""


def output_of(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout


def test_writes_that_fail_beside_the_one_that_is_raised_are_not_told():
    assert output_of(FAILED_WRITES).count("exception was never retrieved") == 1


def test_writes_that_end_after_a_save_was_given_up_are_not_told():
    told = output_of(LATE_WRITE)
    assert "ZeroDivisionError" in told
    assert told.count("RuntimeError: Event loop is closed") == 1  # Python's own hook.
