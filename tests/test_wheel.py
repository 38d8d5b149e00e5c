"""The wheel: its content, and commands of it outside of the clone."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.commands import ROOT

PACKAGES = ("alp_jax", "configs", "data_prep")
# The smallest network, and one step.
TINY = (
    "--config.data.source=toy_cities/source_train2_eval1",
    "--config.evaluation.dataset=toy_cities/target_eval1",
    "--config.num_steps=1",
    "--config.data.batch_size=1",
    "--config.evaluation.batch_size=1",
    "--config.tensorboard=false",
    "--config.model.backbone.depths=1",
    "--config.model.backbone.widths=4",
    "--config.model.backbone.strides=1",
    "--config.model.backbone.dilations=1",
    "--config.model.backbone.stem_widths=4,4",
    "--config.model.heads.main.dilations=1",
)
# `python -m data_prep.toy_cities` in the process that looks where the packages come from.
PREPARE = """
import pathlib, runpy, sys
import alp_jax, configs, data_prep
from alp_jax.command import versions

for package in (alp_jax, configs, data_prep):
    assert pathlib.Path(package.__file__).is_relative_to(sys.argv[1]), package
assert versions.commit() == "unknown"
counts = ["--num_train=2", "--num_eval=1", "--workers=1"]
sys.argv = ["toy_cities", "--data_dir=datasets", *counts]
try:
    runpy.run_module("data_prep.toy_cities", run_name="__main__", alter_sys=True)
except SystemExit as exit_:
    assert not exit_.code, exit_.code
assert pathlib.Path("datasets/toy_cities/source_train2_eval1").is_dir()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    """The wheel of a copy of the working tree, in which nothing of an earlier build lies."""
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / "clone" / name, ignore=ignore)
    for name in ("tests", "benchmarks"):  # Whose code must not be in the wheel.
        (folder / "clone" / name).mkdir()
        shutil.copy(ROOT / name / "__init__.py", folder / "clone" / name)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "clone")
    # What `pip wheel .` calls, in this environment.
    script = "from setuptools import build_meta; print(build_meta.build_wheel('..'))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, cwd=folder / "clone", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def installed(wheel) -> pathlib.Path:
    """A folder as site-packages: a wheel of Python code alone is installed by unpacking it."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(wheel.parent / "site")
    return wheel.parent / "site"


def run(installed: pathlib.Path, folder: pathlib.Path, *arguments: str) -> str:
    """Runs Python in a folder, with the wheel before whatever the environment has."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_it_holds_every_file_of_its_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = (path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file())
    expected = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert found == expected - {"data_prep/README.md"}


def test_its_commands_work_in_another_folder(installed, tmp_path):
    """From nothing to pictures, with configurations by name and folders relative to this one."""
    (tmp_path / "configs").mkdir()  # A user's own folder of that name.
    run(installed, tmp_path, "-c", PREPARE, str(installed))
    log = run(
        installed, tmp_path, "-m", "alp_jax.main", "--config=toy_cities:warmup",
        "--workdir=runs/warmup", *TINY,
    )  # fmt: skip
    assert "step 1/1" in log
    assert (tmp_path / "runs" / "warmup" / "evaluation" / "step_1.png").exists()
