"""A second preparation under the same name: the same, a difference, a split more, a replacement."""

import dataclasses
import json
import os
import pathlib
import shutil
import zipfile

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from alp_jax.data import digests, statistics
from alp_jax.data.labels import load_label_set
from data_prep.cityscapes import COMMAND as CITYSCAPES
from data_prep.common import datasets
from data_prep.gta5 import COMMAND as GTA5
from data_prep.image_folder import COMMAND as IMAGE_FOLDER
from data_prep.raw import builder as builder_module
from data_prep.raw import requests
from data_prep.synthia_rand_cityscapes import COMMAND as SYNTHIA
from data_prep.toy_cities import cli as toy_cities
from tests.data_prep import raw_files as raw
from tests.faults.rights import as_nobody

MAP = {"1": "road", "2": "car", "3": "ignore"}


class Folder:
    """A user's folder of images and labels, and what is prepared from it."""

    def __init__(self, root: pathlib.Path):
        self.root, self.map = root, dict(MAP)
        self.version = root / "datasets/image_folder/mine/1.0.0"
        for seed in range(3):
            self.add(seed)

    def add(self, seed, *, values=(1, 2, 3)):
        raw.write(self.root / "frames", {f"{seed}.png": raw.png(raw.rgb(seed))})
        raw.write(self.root / "masks", {f"{seed}.png": raw.png(raw.values(seed, np.array(values)))})

    def prepare(self, *arguments, labels=True):
        (self.root / "map.json").write_text(json.dumps(self.map))
        labelled = (f"--labels={self.root / 'masks'}", f"--label_map={self.root / 'map.json'}")
        return IMAGE_FOLDER.main(
            [
                *("image_folder", "--workers=1", "--name=mine"),
                *(f"--images={self.root / 'frames'}", f"--data_dir={self.root / 'datasets'}"),
                *(labelled if labels else ()),
                *arguments,
            ]
        )

    def listing(self):
        paths = (self.root / "datasets").rglob("*")
        return sorted((p, p.stat().st_mtime_ns, p.read_bytes()) for p in paths if p.is_file())

    def records(self, split="train"):
        decoders = {key: tfds.decode.SkipDecoding() for key in ("image", "label")}
        builder = tfds.builder_from_directory(self.version)
        chosen = {key: decoders[key] for key in decoders if key in builder.info.features}
        return list(builder.as_data_source(split, decoders=chosen))


@pytest.fixture
def folder(tmp_path, capsys):
    made = Folder(tmp_path)
    assert made.prepare() == 0
    capsys.readouterr()
    return made


def error_of(capsys):
    errors = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error:")]
    return errors[-1]


# The same.


def touch(folder):
    for path in folder.root.glob("*/*.png"):
        os.utime(path, (1, 1))


def move(folder):
    (folder.root / "frames").rename(folder.root / "moved")
    shutil.copytree(folder.root / "moved", folder.root / "frames")


def move_with_times(folder):
    (folder.root / "masks").rename(folder.root / "moved")
    shutil.copytree(folder.root / "moved", folder.root / "masks", copy_function=shutil.copy2)


def forget_inodes(folder):
    """Turns the request into one of an earlier version."""
    path = folder.version / datasets.REQUEST_FILE
    fields = json.loads(path.read_text())
    for pairs in fields["splits"].values():
        for sources in pairs.values():
            for source in sources:
                del source["inode_time"], source["inode"]
    path.write_text(json.dumps(fields))


def rename_map(folder):
    folder.map = {key: folder.map[key] for key in ("1", "2", "3")}


@pytest.mark.parametrize(
    "change", [lambda _: None, touch, move, move_with_times, forget_inodes, rename_map]
)
def test_the_same_is_already_there(folder, capsys, change):
    change(folder)
    before = folder.listing()
    assert folder.prepare("--skip_bad", "--workers=2") == 0
    output = capsys.readouterr().out
    assert (
        "image_folder/mine is already there: 3 images in train. (prepared from the same)" in output
    )
    assert folder.listing() == before


def test_a_dataset_of_an_earlier_version_is_not_compared(folder, capsys):
    for name in (datasets.REQUEST_FILE, statistics.FILE_NAME, digests.FILE_NAME):
        (folder.version / name).unlink()
    folder.add(7)
    before = folder.listing()
    assert folder.prepare() == 0
    assert "(prepared by an earlier version, so not compared)" in capsys.readouterr().out
    assert folder.listing() == before


def test_a_raw_folder_that_is_gone_is_not_missed(folder, capsys):
    (folder.root / "frames").rename(folder.root / "away")
    assert folder.prepare() == 0
    assert "is gone, so they were not compared" in capsys.readouterr().out


# A difference.


def correct_map(folder):
    folder.map["2"] = "sidewalk"


def correct_an_ignored_value(folder):
    folder.map["3"] = "sky"


def add_to_map(folder):
    folder.map["4"] = "sky"


def shorten_map(folder):
    del folder.map["3"]


def turn_map(folder):
    folder.map = dict(reversed(folder.map.items()))


def take_an_image_away(folder):
    for part in ("frames", "masks"):
        (folder.root / part / "1.png").unlink()


def correct_a_label(folder):
    path = folder.root / "masks/1.png"
    raw.write(folder.root / "masks", {"1.png": raw.png(raw.values(9, np.array([1, 2, 3])))})
    os.utime(path, (1, 1))


def correct_a_label_to_the_same_size(folder):
    path = folder.root / "frames/1.png"
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-12] + bytes([data[-12] ^ 1]) + data[-11:])
    os.utime(path, (1, 1))


def keep_times(change):
    """Changes files of the same size and sets their times back, as programs that unpack do."""

    def make(folder):
        times = {path: path.stat().st_mtime_ns for path in folder.root.glob("*/*.png")}
        change(folder)
        for path, time in times.items():
            os.utime(path, ns=(time, time))

    return make


@keep_times
def correct_an_image_in_place(folder):
    correct_a_label_to_the_same_size(folder)


DIFFERENCES = {
    "label map": (correct_map, "the label map differs: 2 car -> sidewalk"),
    "ignored": (correct_an_ignored_value, "the label map differs: 3 ignore -> sky"),
    "more in the map": (add_to_map, "the label map differs: 4 sky is new"),
    "less in the map": (shorten_map, "the label map differs: 3 ignore is gone"),
    "order of the map": (turn_map, "the label map differs: its classes are in another order"),
    "files added": (lambda f: (f.add(7), f.add(8)), "2 images more (7, 8) in train"),
    "files gone": (take_an_image_away, "1 image fewer (1) in train"),
    "label changed": (correct_a_label, "1 label with other content (1) in train"),
    "same size and time": (correct_an_image_in_place, "1 image with other content (1) in train"),
    "same size": (correct_a_label_to_the_same_size, "1 image with other content (1) in train"),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_difference_is_an_error_and_changes_nothing(folder, capsys, difference):
    change, words = DIFFERENCES[difference]
    change(folder)
    before = folder.listing()
    assert folder.prepare() == 2
    error = error_of(capsys)
    assert "image_folder/mine is already there (3 images in train)" in error
    assert words in error
    assert "--replace" in error
    assert "another --name" in error
    assert folder.listing() == before


@pytest.mark.parametrize("difference", ["label map", "files added", "files gone", "label changed"])
def test_replacing_writes_what_a_new_dataset_would_hold(folder, capsys, difference, tmp_path):
    DIFFERENCES[difference][0](folder)
    old = folder.listing()
    assert folder.prepare("--replace") == 0
    assert folder.listing() != old
    assert folder.prepare("--name=other") == 0
    new = folder.root / "datasets/image_folder/other/1.0.0"
    for path in new.iterdir():
        if path.name != "dataset_info.json":  # It has the dataset's name.
            assert (folder.version / path.name).read_bytes() == path.read_bytes(), path.name
    assert sorted(os.listdir(new)) == sorted(os.listdir(folder.version))
    capsys.readouterr()
    assert folder.prepare() == 0
    assert "prepared from the same" in capsys.readouterr().out
    assert sorted(os.listdir(folder.version.parent)) == ["1.0.0"]


def test_another_folder_is_a_difference(folder, capsys):
    other = Folder(folder.root / "b")
    other.root = folder.root / "b"
    for seed in range(3):
        raw.write(other.root / "frames", {f"{seed}.png": raw.png(raw.rgb(seed + 9))})
    assert folder.prepare(f"--images={other.root / 'frames'}") == 2
    assert "3 images with other content (0, 1, 2) in train" in error_of(capsys)


def test_swapped_labels_of_one_size_and_time_are_a_difference(tmp_path, capsys):
    folder = Folder(tmp_path)
    masks = tmp_path / "masks"
    for path in masks.glob("*.png"):
        cv2.imwrite(str(path.with_suffix(".bmp")), cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        path.unlink()
        os.utime(path.with_suffix(".bmp"), (1, 1))
    assert folder.prepare() == 0
    for name, other in (("0", "swapped"), ("1", "0"), ("swapped", "1")):
        (masks / f"{name}.bmp").rename(masks / f"{other}.bmp")
    assert folder.prepare() == 2
    assert "2 labels with other content (0, 1) in train" in error_of(capsys)


def test_labels_that_were_not_there_are_a_difference(tmp_path, capsys):
    folder = Folder(tmp_path)
    assert folder.prepare(labels=False) == 0
    assert folder.prepare() == 2
    assert "3 labels with other content" in error_of(capsys)


def test_what_skip_bad_left_out_is_a_difference_without_it(tmp_path, capsys):
    folder = Folder(tmp_path)
    raw.write(tmp_path / "frames", {"1.png": b"no image"})
    assert folder.prepare("--skip_bad") == 0
    assert folder.prepare("--skip_bad") == 0
    assert folder.prepare() == 2
    assert "--skip_bad left 1 file out" in error_of(capsys)


def test_another_version_of_the_recipe_is_a_difference(folder, capsys, monkeypatch):
    monkeypatch.setattr(requests, "RECIPE", requests.RECIPE + 1)
    assert folder.prepare() == 2
    assert "it was prepared by another version" in error_of(capsys)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"splits": 3}', '{"folder": "x"}'])
def test_a_damaged_request_is_one_sentence(folder, capsys, text):
    (folder.version / datasets.REQUEST_FILE).write_text(text)
    assert folder.prepare() == 2
    assert "which says what the dataset was prepared from, is damaged" in error_of(capsys)
    assert folder.prepare("--replace") == 0
    assert folder.prepare() == 0


# Failures.


def test_a_failed_replacement_keeps_the_old_dataset(folder, capsys, monkeypatch):
    folder.add(7)
    before = folder.listing()

    def fail(recipe, pair):
        raise KeyboardInterrupt

    monkeypatch.setattr(builder_module, "make_record", fail)
    assert folder.prepare("--replace") == 130
    assert folder.listing() == before
    monkeypatch.undo()
    raw.write(folder.root / "masks", {"7.png": raw.png(np.full((38, 70), 99))})
    assert folder.prepare("--replace") == 2
    assert folder.listing() == before
    for seed in (0, 1, 2, 7):
        folder.add(seed, values=[3])
    assert folder.prepare("--replace") == 2
    assert "Every pixel of the labels in train is ignored" in error_of(capsys)
    assert folder.listing() == before


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_kill_while_directories_are_swapped_loses_nothing(folder, monkeypatch, moment):
    folder.add(7)
    old = folder.records()
    rename, rmtree = os.rename, shutil.rmtree
    calls = []

    def killed(*_, **__):
        raise SystemError("killed")

    def count_renames(source, target):
        calls.extend([target] if folder.version in map(pathlib.Path, (source, target)) else [])
        if len(calls) > {"before": 0, "between": 1, "after": 2}[moment]:
            killed()
        rename(source, target)

    monkeypatch.setattr(datasets.os, "rename", count_renames)

    def remove(path, *arguments, **options):
        if "replaced." in str(path):
            killed()
        rmtree(path, *arguments, **options)

    monkeypatch.setattr(datasets.shutil, "rmtree", remove)
    with pytest.raises(SystemError):
        folder.prepare("--replace")
    monkeypatch.undo()
    if moment == "after":
        assert folder.prepare() == 0
        assert folder.records() != old
    else:
        assert folder.prepare() == 2, "it is the old one, which differs"
        assert folder.records() == old
    assert not list(folder.version.parent.glob("replaced*"))


@pytest.mark.parametrize("fault", ["bad image", "all ignored", "no folder"])
@pytest.mark.parametrize("there", [(), ("datasets",), ("datasets/image_folder",)])
def test_a_failed_preparation_leaves_no_folder(tmp_path, fault, there):
    folder = Folder(tmp_path)
    for name in there:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    if fault == "bad image":
        raw.write(tmp_path / "frames", {"1.png": b""})
    if fault == "all ignored":
        folder.map = {"1": "ignore", "2": "ignore", "3": "ignore", "9": "road"}
    before = sorted(tmp_path.rglob("*"))
    arguments = ["--images=/nowhere"] if fault == "no folder" else []
    assert folder.prepare(*arguments) == 2
    after = [path for path in tmp_path.rglob("*") if path.name != "map.json"]
    assert sorted(after) == before


def test_a_failed_preparation_leaves_other_configurations(tmp_path):
    raw.write(tmp_path / "raw", raw.gta5_files([1]))
    places = [f"--raw_dir={tmp_path / 'raw'}", f"--data_dir={tmp_path / 'datasets'}"]
    assert GTA5.main(["gta5", "--workers=1", *places]) == 0
    before = sorted(tmp_path.rglob("*"))
    raw.write(tmp_path / "raw", {"images/00001.png": b""})
    assert GTA5.main(["gta5", "--workers=1", "--size=9,9", *places]) == 2
    assert sorted(tmp_path.rglob("*")) == before


# Folders of others.


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json", "image_folder-notes"])
def test_a_folder_with_names_of_ours_is_not_replaced(tmp_path, capsys, name):
    folder = Folder(tmp_path)
    raw.write(folder.version, {name: b'{"name": "mine"}'})
    before = folder.listing()
    for flags in ([], ["--replace"]):
        assert folder.prepare(*flags) == 2
        error = error_of(capsys)
        assert "is not a dataset of image_folder, as it has no dataset_info.json" in error
        assert "give another --data_dir" in error
        assert folder.listing() == before


@pytest.mark.parametrize("info", [None, b"{"])
def test_a_damaged_dataset_is_replaced(folder, info):
    (folder.version / "dataset_info.json").unlink()
    if info:
        (folder.version / "dataset_info.json").write_bytes(info)
    assert folder.prepare() == 2
    assert folder.prepare("--replace") == 0
    assert len(folder.records()) == 3


@pytest.mark.parametrize("link", ["", "mine", "mine/1.0.0"])
def test_a_link_that_leads_out_is_refused(tmp_path, capsys, link):
    folder = Folder(tmp_path)
    (tmp_path / "user").mkdir()
    place = tmp_path / "datasets/image_folder" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "user")
    for flags in ([], ["--replace"]):
        assert folder.prepare(*flags) == 2
        assert f"{place} leads out of {tmp_path / 'datasets'}" in error_of(capsys)
    assert not list((tmp_path / "user").iterdir())


@pytest.mark.parametrize("flag", ["images", "labels"])
def test_datasets_in_the_input_are_refused(tmp_path, capsys, flag):
    folder = Folder(tmp_path)
    inner = tmp_path / {"images": "frames", "labels": "masks"}[flag] / "datasets"
    assert folder.prepare(f"--data_dir={inner}") == 2
    assert f"lies in the input of --{flag}" in error_of(capsys)
    assert not inner.exists()


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("closed", ["", "image_folder", "image_folder/mine/1.0.0"])
def test_a_folder_that_may_not_be_entered_is_one_sentence(folder, capsys, closed, replace):
    place = folder.root / "datasets" / closed
    (folder.root / "map.json").chmod(0o666)
    place.chmod(0)
    with as_nobody(folder.root):
        assert folder.prepare(*["--replace"] * replace) == 2
    place.chmod(0o755)
    assert f"Cannot write in {place}: Permission denied." in error_of(capsys)


def test_a_data_dir_that_is_not_utf_8_is_one_sentence(tmp_path, capsys):
    folder = Folder(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert folder.prepare(f"--data_dir={tmp_path}/d\udcff") == 2
    assert r"/d\xff, which is not UTF-8" in error_of(capsys)
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "map.json"] == before


# Splits.


@pytest.mark.parametrize("linked", [True, False])
def test_another_split_is_added(folder, capsys, monkeypatch, linked):
    train = folder.records()
    digest = digests.read(folder.version)["train"]
    if not linked:
        monkeypatch.setattr(datasets.os, "link", lambda *_: os.remove("/nowhere"))
    folder.add(7)
    assert folder.prepare("--split=validation") == 0
    assert "4 images in validation, beside train as before" in capsys.readouterr().out
    assert folder.records() == train
    assert len(folder.records("validation")) == 4
    assert digests.read(folder.version)["train"] == digest
    for split, number in (("train", 3), ("validation", 4)):
        pixels = statistics.read_class_pixels(
            str(folder.root / "datasets"),
            "image_folder/mine",
            split,
            load_label_set("cityscapes_19"),
        )
        assert pixels.shape == (number, 19)
        assert pixels.any(axis=1).all()
    assert folder.prepare("--split=validation") == 0
    assert "3 images in train, 4 images in validation. (prepared fr" in capsys.readouterr().out
    assert folder.prepare() == 2, "7 is not in train"
    assert "1 image more (7) in train" in error_of(capsys)


def test_splits_may_take_other_frames(folder):
    then, now = (
        dataclasses.replace(requests.read_request(folder.version), options=options)
        for options in ({}, {"every": "10"})
    )
    pairs = {split: [] for split in then.splits}
    now.splits = {split: {} for split in then.splits}
    then = dataclasses.replace(then, splits=now.splits)
    assert requests.list_changes(then, now, pairs, skip_bad=False) == [
        "--every was not given and is 10"
    ]
    now.splits = {"test": {}}
    assert requests.list_changes(then, now, {"test": []}, skip_bad=False) == []


def test_replacing_one_split_keeps_the_other(folder, capsys):
    assert folder.prepare("--split=validation") == 0
    validation = folder.records("validation")
    folder.add(7)
    assert folder.prepare("--replace") == 0
    assert len(folder.records()) == 4
    assert folder.records("validation") == validation
    capsys.readouterr()
    assert folder.prepare() == 0
    assert "4 images in train" in capsys.readouterr().out


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("what", ["map", "same classes", "no labels"])
def test_splits_of_different_meaning_do_not_mix(folder, capsys, what, replace):
    assert folder.prepare("--split=test") == 0
    folder.map |= {"map": {"2": "sky"}, "same classes": {"4": "car"}, "no labels": {}}[what]
    before = folder.listing()
    flags = ["--replace"] if replace else ["--split=validation"]
    assert folder.prepare(*flags, labels=what != "no labels") == 2
    error = error_of(capsys)
    assert "give another --name" in error
    assert {"map": "classes", "same classes": "4 car is new", "no labels": "no labels"}[
        what
    ] in error
    assert folder.listing() == before


def test_a_split_is_added_to_a_dataset_of_an_earlier_version(folder):
    for name in (datasets.REQUEST_FILE, statistics.FILE_NAME, digests.FILE_NAME):
        (folder.version / name).unlink()
    train = folder.records()
    assert folder.prepare("--split=validation") == 0
    assert folder.records() == train
    assert len(folder.records("validation")) == 3
    assert statistics.read(folder.version).keys() == {"validation"}


# The published datasets.


def test_validation_of_cityscapes_that_arrives_later_is_added(tmp_path, capsys):
    def write(split):
        files = raw.cityscapes_files(split, range(2), "leftImg8bit")
        raw.write(tmp_path / "raw", files | raw.cityscapes_files(split, range(2), "gtFine"))

    places = [f"--raw_dir={tmp_path / 'raw'}", f"--data_dir={tmp_path / 'datasets'}"]
    command = ["cityscapes", "--workers=1", "--configs=labelled", *places]
    write("train")
    assert CITYSCAPES.main(command) == 0
    write("val")
    assert CITYSCAPES.main(command) == 0
    assert "2 images in validation, beside train as before" in capsys.readouterr().out
    assert set(raw.read(tmp_path / "datasets", "cityscapes/labelled", "validation")) == {
        raw.cityscapes_name(number) for number in range(2)
    }


@pytest.mark.parametrize(
    ("name", "command", "files"),
    [("gta5", GTA5, raw.gta5_files), ("synthia", SYNTHIA, raw.synthia_files)],
)
def test_files_that_arrive_later_are_a_difference(tmp_path, capsys, name, command, files):
    places = [f"--raw_dir={tmp_path / 'raw'}", f"--data_dir={tmp_path / 'datasets'}"]
    raw.write_zip(tmp_path / "raw/01.zip", files([1, 2]))
    assert command.main([name, "--workers=1", *places]) == 0
    assert command.main([name, "--workers=1", *places]) == 0
    raw.write_zip(tmp_path / "raw/02.zip", files([3]))
    assert command.main([name, "--workers=1", *places]) == 2
    error = error_of(capsys)
    assert "1 image more" in error
    assert "another --data_dir" in error
    assert command.main([name, "--workers=1", "--replace", *places]) == 0
    capsys.readouterr()
    assert command.main([name, "--workers=1", *places]) == 0
    assert "3 images in train. (prepared from the same)" in capsys.readouterr().out


def test_a_zip_file_that_was_repacked_is_compared_by_content(tmp_path, capsys):
    places = [f"--raw_dir={tmp_path / 'raw'}", f"--data_dir={tmp_path / 'datasets'}"]
    raw.write_zip(tmp_path / "raw/01.zip", raw.gta5_files([1, 2]))
    assert GTA5.main(["gta5", "--workers=1", *places]) == 0
    with zipfile.ZipFile(tmp_path / "raw/01.zip", "a") as archive:
        archive.comment = b"again"
    os.utime(tmp_path / "raw/01.zip", (1, 1))
    assert GTA5.main(["gta5", "--workers=1", *places]) == 0
    assert "(prepared from the same)" in capsys.readouterr().out


def test_the_built_in_cities_are_replaced_by_the_same(tmp_path):
    sizes = ("--num_train=2", "--num_eval=1", "--height=16", "--width=32", "--workers=1")
    command = ["toy_cities", f"--data_dir={tmp_path}", *sizes]
    assert toy_cities.main(command) == 0
    files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    times = {path: path.stat().st_mtime_ns for path in files}
    assert toy_cities.main([*command, "--replace"]) == 0
    records = [path for path in files if "array_record" in path.name]
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files
    assert all(path.stat().st_mtime_ns != times[path] for path in records)
    assert toy_cities.main([*command, "--seed=1"]) == 0, "another seed has a name of its own"
    assert {p: p.read_bytes() for p in files} == files
