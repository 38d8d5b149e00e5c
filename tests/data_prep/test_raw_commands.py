"""The commands of the raw datasets: flags, processes, interruption, what is left behind."""

import os
import signal
import subprocess
import sys
import time

import pytest
import tensorflow_datasets as tfds

from data_prep.cityscapes import COMMAND as CITYSCAPES
from data_prep.common import datasets
from data_prep.gta5 import COMMAND as GTA5
from data_prep.gta5 import Gta5
from data_prep.image_folder import COMMAND as IMAGE_FOLDER
from data_prep.raw import builder as builder_module
from data_prep.raw import shards
from data_prep.synthia_rand_cityscapes import COMMAND as SYNTHIA
from tests.data_prep import raw_files as raw
from tests.data_prep.test_toy_cities_builder import ROOT

_BUILD = """
import sys
from data_prep.gta5 import COMMAND
status = COMMAND.main(["gta5", "--workers=1", *sys.argv[1:]])
assert status == 0 and "tensorflow" not in sys.modules, status
"""


def arguments(root, *more):
    return [f"--raw_dir={root / 'raw'}", f"--data_dir={root / 'datasets'}", *more]


def start(root, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "data_prep.gta5", *arguments(root, *more)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stored(root, name):
    """The records of a split as they are stored."""
    builder = tfds.builder_from_directory(root / f"datasets/gta5/{name}/1.0.0")
    decoders = {key: tfds.decode.SkipDecoding() for key in ("image", "label")}
    return list(builder.as_data_source("train", decoders=decoders))


def test_preparing_does_not_import_tensorflow(tmp_path):
    raw.write(tmp_path / "raw", raw.gta5_files([1]))
    script = [sys.executable, "-c", _BUILD, *arguments(tmp_path)]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_preparation_leaves_nothing_that_looks_whole(tmp_path, capsys, number):
    """Two processes prepare it again as one does."""
    raw.write_zip(tmp_path / "raw/01.zip", raw.gta5_files(range(1, 25)))
    process = start(tmp_path, "--workers=2", "--size=800,1000")
    try:
        while not list((tmp_path / "datasets").rglob("*.part0")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert not list(tmp_path.rglob("1.0.0"))
    left = list(tmp_path.rglob("incomplete*"))
    if number == signal.SIGTERM:
        assert process.returncode == 130
        assert "no half dataset" in errors
        assert "Traceback" not in errors
        assert "WARNING" not in errors
        assert not left
        return
    assert len(left) == 1
    assert GTA5.main(["gta5", "--workers=2", *arguments(tmp_path, "--size=800,1000")]) == 0
    output = capsys.readouterr().out
    assert f"A stopped preparation left {left[0]}, which nothing reads" in output
    assert "images a second with 2 processes" in output
    records = stored(tmp_path, "all_800x1000")
    assert len(records) == 24
    (tmp_path / "datasets").rename(tmp_path / "by_two")
    assert GTA5.main(["gta5", "--workers=1", *arguments(tmp_path, "--size=800,1000")]) == 0
    assert records == stored(tmp_path, "all_800x1000")


def test_interrupted_preparation_leaves_nothing(tmp_path, monkeypatch, capsys):
    raw.write(tmp_path / "raw", raw.gta5_files(range(1, 4)))
    make = builder_module.make_record

    def interrupt(recipe, pair):
        if pair.name == "00002":
            raise KeyboardInterrupt
        return make(recipe, pair)

    monkeypatch.setattr(builder_module, "make_record", interrupt)
    assert GTA5.main(["gta5", "--workers=1", *arguments(tmp_path)]) == 130
    assert "no half dataset is left" in capsys.readouterr().err
    assert not [path for path in (tmp_path / "datasets").rglob("*all*") if any(path.iterdir())]
    monkeypatch.undo()
    assert GTA5.main(["gta5", "--workers=1", *arguments(tmp_path)]) == 0
    assert len(stored(tmp_path, "all")) == 3


def test_complete_datasets_are_left_alone_and_need_no_raw_folder(tmp_path, capsys):
    raw.write(tmp_path / "raw", raw.gta5_files(range(1, 3)))
    assert GTA5.main(["gta5", "--workers=1", *arguments(tmp_path)]) == 0
    before = raw.listing(tmp_path / "datasets")
    (tmp_path / "raw").rename(tmp_path / "away")
    assert GTA5.main(["gta5", "--workers=1", *arguments(tmp_path)]) == 0
    assert "gta5/all is already there: 2 images in train." in capsys.readouterr().out
    assert raw.listing(tmp_path / "datasets") == before


@pytest.mark.parametrize("damage", ["shard", "info"])
def test_a_damaged_dataset_is_refused_and_can_be_replaced(tmp_path, capsys, damage):
    raw.write(tmp_path / "raw", raw.gta5_files([1]))
    assert GTA5.main(["gta5", "--workers=1", *arguments(tmp_path)]) == 0
    directory = datasets.directory_of(Gta5, tmp_path / "datasets", Gta5.BUILDER_CONFIGS[0])
    records = stored(tmp_path, "all")
    pattern = {"shard": "*array_record*", "info": "dataset_info.json"}[damage]
    for path in directory.glob(pattern):
        path.unlink()
    capsys.readouterr()
    assert GTA5.main(["gta5", "--workers=1", *arguments(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"{directory} exists but is not a complete gta5 dataset (" in error
    assert "missing or" in error
    assert "write it anew with --replace" in error
    assert GTA5.main(["gta5", "--workers=1", "--replace", *arguments(tmp_path)]) == 0
    assert stored(tmp_path, "all") == records


def test_an_empty_directory_is_no_dataset(tmp_path):
    raw.write(tmp_path / "raw", raw.gta5_files([1]))
    directory = datasets.directory_of(Gta5, tmp_path / "datasets", Gta5.BUILDER_CONFIGS[0])
    directory.mkdir(parents=True)
    assert GTA5.main(["gta5", "--workers=1", *arguments(tmp_path)]) == 0
    assert len(stored(tmp_path, "all")) == 1


@pytest.mark.parametrize("flags", [[], ["--replace"]])
def test_files_of_somebody_else_are_never_replaced(tmp_path, capsys, flags):
    raw.write(tmp_path / "raw", raw.gta5_files([1]))
    directory = datasets.directory_of(Gta5, tmp_path / "datasets", Gta5.BUILDER_CONFIGS[0])
    raw.write(directory, {"diary.txt": b"mine", "dataset_info.json": b"{}"})
    assert GTA5.main(["gta5", "--workers=1", *flags, *arguments(tmp_path)]) == 2
    assert "is not a dataset of gta5, as it holds diary.txt" in capsys.readouterr().err
    assert (directory / "diary.txt").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        (GTA5, ["--size=720x1280"], "--size is '720x1280': expected HEIGHT,WIDTH"),
        (GTA5, ["--size=720"], "such as 720,1280"),
        (GTA5, ["--size=0,5"], "size is '0,5'"),
        (GTA5, ["--size=720,99999"], "size is '720,99999'"),
        (GTA5, ["--configs=al"], "which gta5 has not: did you mean all? It must be of all, pub"),
        (CITYSCAPES, ["--configs=labeled"], "did you mean labelled?"),
        (GTA5, ["--workers=0"], "--workers is 0: expected 1 to"),
        (GTA5, ["--workers=abc"], "--workers is 'abc': expected a whole number."),
        (GTA5, ["--workers=2.5"], "--workers is '2.5': expected a whole number."),
        (GTA5, ["--check=maybe"], "--check is 'maybe': expected true or false."),
        (IMAGE_FOLDER, ["--every=0"], "--every is '0': expected a whole number of at least 1."),
        (
            IMAGE_FOLDER,
            ["--split=tset"],
            "--split is 'tset': expected one of train, validation, test",
        ),
        (GTA5, ["--raw=x"], "'raw'"),
        (GTA5, ["train"], "'train' is not a flag"),
        (GTA5, ["--raw_dir="], "--raw_dir is missing: write --raw_dir=..."),
        (GTA5, ["--raw_dir=nowhere"], "nowhere does not exist: give the folder"),
        (SYNTHIA, ["--lane_marking=sky"], "lane_marking"),
        (IMAGE_FOLDER, [], "--name is missing: write --name=..."),
    ],
)
def test_wrong_input_is_one_sentence(tmp_path, capsys, command, flags, words):
    data_dir = tmp_path / "datasets"
    assert command.main(["command", f"--data_dir={data_dir}", *flags]) == 2
    error = capsys.readouterr().err
    if "raw_dir" not in words and command is not IMAGE_FOLDER:
        assert "is missing" not in error
    assert words in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    assert not data_dir.exists()


def test_an_unwritable_data_dir(tmp_path, capsys):
    raw.write(tmp_path / "raw", raw.gta5_files([1]))
    (tmp_path / "datasets").write_text("")
    assert GTA5.main(["gta5", "--workers=1", *arguments(tmp_path)]) == 2
    assert "Cannot write in" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence(tmp_path, capsys, monkeypatch):
    class FullDisk:
        def __init__(self, path, options):
            pass

        def write(self, record):
            pass

        def close(self):
            raise RuntimeError("write() failed: No space left on device; writing train.part0")

    monkeypatch.setattr(shards.array_record_module, "ArrayRecordWriter", FullDisk)
    raw.write(tmp_path / "raw", raw.gta5_files([1]))
    assert GTA5.main(["gta5", "--workers=1", *arguments(tmp_path)]) == 2
    assert "No space left on device.\n" in capsys.readouterr().err
    assert not list(tmp_path.rglob("incomplete*"))


@pytest.mark.parametrize("command", [GTA5, CITYSCAPES, SYNTHIA, IMAGE_FOLDER])
def test_help(capsys, command):
    assert command.main(["command", "--help"]) == 0
    output = capsys.readouterr().out
    assert "skip_bad" in output
    assert "python -m data_prep." in output
