"""Runs of a study that are trained at the same time, in processes of their own."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from alp_jax.errors import UserError
from alp_jax.study import jobs, scores
from alp_jax.study.plan import create_plan
from alp_jax.workdir import outputs
from tests.commands import ROOT, call, read_error
from tests.studies import write_config

FLAGS = ("--config.num_steps=2", "--config.evaluation.every_steps=2")


@pytest.fixture(scope="module")
def config_file(data_dir, tmp_path_factory) -> pathlib.Path:
    return write_config(data_dir, tmp_path_factory.mktemp("config"))


def command(config_file, workdir, *flags: str) -> list[str]:
    methods = "--methods=source_only,target_bn"
    return [f"--config={config_file}", f"--workdir={workdir}", methods, *FLAGS, *flags]


def test_two_jobs_give_what_one_gives(config_file, tmp_path):
    done = call("alp_jax.study", *command(config_file, tmp_path / "one", "--seeds=1"))
    assert done.returncode == 0, done.stderr
    arguments = command(config_file, tmp_path / "two", "--seeds=1", "--jobs=2")
    process = subprocess.Popen(
        [sys.executable, "-m", "alp_jax.study", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 300
    while not list((tmp_path / "two").glob("s*/seed_*/checkpoints/*")):  # A start, or a run.
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75, stderr
    assert "the same command continues" in stderr
    done = call("alp_jax.study", *arguments)
    assert done.returncode == 0, done.stderr
    one, two = (scores.load(tmp_path / name) for name in ("one", "two"))
    assert [run.workdir for run in two.runs] == [run.workdir for run in one.runs]
    for ours, theirs in zip(two.runs, one.runs, strict=True):
        # A process with one core may sum in another order than one with two.
        assert ours.last["mean_iou"] == pytest.approx(theirs.last["mean_iou"], abs=1e-3)


def test_a_refused_run_ends_in_its_sentence_and_stops_the_others(config_file, tmp_path):
    damaged = tmp_path / "study" / "target_bn" / "seed_0"
    damaged.mkdir(parents=True)
    outputs.mark(tmp_path / "study", scores.STUDY)
    (damaged / "mine.txt").write_text("text")
    done = call("alp_jax.study", *command(config_file, tmp_path / "study", "--seeds=1", "--jobs=2"))
    assert "holds 'mine.txt'" in read_error(done)
    assert (damaged / "mine.txt").read_text() == "text"


def test_a_run_waits_for_those_that_it_needs(config_file, tmp_path):
    plan = create_plan(
        tmp_path, str(config_file), (), methods=("source_only", "alp_gi"), num_seeds=2, sweep=None
    )
    start = plan.starts[0]
    of_start = [run for run in plan.runs if run.config.init_from == str(start.workdir)]
    assert len(of_start) == 2
    for run in of_start:
        assert run.needed == {start.workdir}
    ensemble = dataclasses.replace(of_start[0], members=tuple((run, 0.5) for run in of_start))
    assert ensemble.needed >= {run.workdir for run in of_start}
    everything = [*plan.starts, *plan.runs]
    open_folders = {run.workdir for run in everything}
    assert jobs.find_ready(everything, open_folders) == start
    assert jobs.find_ready(of_start, open_folders) is None
    assert jobs.find_ready(of_start, open_folders - {start.workdir}) == of_start[0]


def test_more_jobs_than_cores_are_refused():
    number = len(jobs.list_cores())
    jobs.check(number)
    with pytest.raises(UserError, match=f"--jobs is {number + 1}: expected at most {number}, the"):
        jobs.check(number + 1)
    assert len(os.sched_getaffinity(0)) == number
