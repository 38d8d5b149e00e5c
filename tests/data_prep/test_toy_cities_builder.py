"""The datasets that toy_cities writes, and its command line."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from alp_jax.errors import UserError
from data_prep.common import datasets
from data_prep.toy_cities import cli, prepare
from data_prep.toy_cities.builder import Part, ToyCities, make_config
from data_prep.toy_cities.render import Domain, Settings, Split, render
from data_prep.toy_cities.scenes import SceneFactory

ROOT = pathlib.Path(__file__).parents[2]
NUM_TRAIN, NUM_EVAL = 27, 2  # more than one chunk of a worker
COUNTS = (f"--num_train={NUM_TRAIN}", f"--num_eval={NUM_EVAL}")
NAMES = {
    Part.SOURCE: "source_train27_eval2",
    Part.TARGET: "target_eval2",
    Part.TARGET_UNLABELLED: "target_unlabelled_train27",
    Part.TARGET_TRAIN_LABELS: "target_train_labels_train27",
}
BOTH_SHIFTS = {"camera_shift": 0.5, "appearance_shift": 0.3}
_READ = """
import sys
import numpy as np
import tensorflow_datasets as tfds
unlabelled, source = (
    tfds.builder_from_directory(f"{sys.argv[1]}/toy_cities/{name}/1.0.0").as_data_source("train")
    for name in sys.argv[2:]
)
example = unlabelled[17]
assert set(example) == {"image", "name"}, set(example)
assert example["image"].shape == (64, 128, 3) and example["image"].dtype == np.uint8
assert bytes(example["name"]).decode() == "target_train_00017"
example = source[26]
assert example["label"].shape == (64, 128, 1) and example["label"].dtype == np.uint8
assert len(source) == 27
modules = {"tensorflow", "data_prep"} & set(sys.modules)
assert not modules, modules
"""


def command(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "data_prep.toy_cities", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def directory(data_dir, part):
    return data_dir / "toy_cities" / NAMES[part] / "1.0.0"


def read(data_dir, part, split):
    """All examples of a split, the name as text."""
    source = tfds.builder_from_directory(directory(data_dir, part)).as_data_source(split)
    return [example | {"name": bytes(example["name"]).decode()} for example in source]


def raw_records(data_dir, part, split):
    (path,) = directory(data_dir, part).glob(f"toy_cities-{split}.array_record*")
    reader = array_record_module.ArrayRecordReader(str(path))
    records = reader.read_all()
    reader.close()
    return records


def stored_values(data_dir, part, split):
    """The PNG files and names as stored; the order of the values inside a record is not fixed."""
    builder = tfds.builder_from_directory(directory(data_dir, part))
    decoders = {
        name: tfds.decode.SkipDecoding()
        for name in ("image", "label")
        if name in builder.info.features
    }
    source = builder.as_data_source(split, decoders=decoders)
    return [{name: bytes(value) for name, value in example.items()} for example in source]


def all_splits():
    return [(part, split.name.lower()) for part in Part for split in part.splits]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The four configurations, written by the command with two workers."""
    data_dir = tmp_path_factory.mktemp("two_workers")
    process = command(f"--data_dir={data_dir}", "--workers=2", *COUNTS)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert str(data_dir) in output
    assert "Traceback" not in errors
    assert len(output.strip().splitlines()) == 1
    return data_dir


@pytest.fixture(scope="module")
def built_again(tmp_path_factory):
    """The same in this process, without workers."""
    data_dir = tmp_path_factory.mktemp("one_worker")
    assert cli.main(["toy_cities", f"--data_dir={data_dir}", "--workers=1", *COUNTS]) == 0
    return data_dir


def test_directories(built):
    found = {path.name for path in (built / "toy_cities").iterdir() if path.name[0] != "."}
    assert found == set(NAMES.values())
    for part in Part:
        assert [path.name for path in directory(built, part).parent.iterdir()] == ["1.0.0"]


def test_split_sizes(built):
    for part in Part:
        splits = tfds.builder_from_directory(directory(built, part)).info.splits
        found = {name: split.num_examples for name, split in splits.items()}
        sizes = {Split.TRAIN: NUM_TRAIN, Split.VALIDATION: NUM_EVAL, Split.TEST: NUM_EVAL}
        assert found == {split.name.lower(): sizes[split] for split in part.splits}


def test_reading_needs_neither_tensorflow_nor_this_package(built, tmp_path):
    names = (NAMES[Part.TARGET_UNLABELLED], NAMES[Part.SOURCE])
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(built), *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_building_does_not_import_tensorflow(tmp_path):
    script = (
        "import sys; from data_prep.toy_cities.cli import main; status = main(sys.argv);"
        "assert status == 0 and 'tensorflow' not in sys.modules"
    )
    flags = [f"--data_dir={tmp_path}", "--num_train=1", "--num_eval=1", "--workers=1"]
    done = subprocess.run(
        [sys.executable, "-c", script, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("part", "split"), all_splits())
def test_records_do_not_depend_on_workers_or_run(built, built_again, part, split):
    records = stored_values(built, part, split)
    assert records == stored_values(built_again, part, split)
    assert len(records) == (NUM_TRAIN if split == "train" else NUM_EVAL)
    assert {type(value) for record in records for value in record.values()} == {bytes}


@pytest.mark.parametrize(
    ("part", "split"), [(p, s) for p, s in all_splits() if p in (Part.SOURCE, Part.TARGET)]
)
def test_records_hold_what_was_rendered(built, part, split):
    for index, example in enumerate(read(built, part, split)):
        image, labels = render(Settings(), part.domain, Split[split.upper()], index)
        assert example["name"] == f"{part.value}_{split}_{index:05d}"
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["label"], labels[:, :, None])


def test_target_training_images_have_no_labels(built):
    features = json.loads((directory(built, Part.TARGET_UNLABELLED) / "features.json").read_text())
    assert set(features["featuresDict"]["features"]) == {"image", "name"}
    stored = b"".join(raw_records(built, Part.TARGET_UNLABELLED, "train"))
    assert b"label" not in stored
    assert stored.count(b"\x89PNG") == NUM_TRAIN


def test_target_training_labels_pair_up_with_the_images(built):
    images = read(built, Part.TARGET_UNLABELLED, "train")
    labels = read(built, Part.TARGET_TRAIN_LABELS, "train")
    assert set(labels[0]) == {"label", "name"}
    assert [e["name"] for e in images] == [e["name"] for e in labels]
    for index in (0, 5, NUM_TRAIN - 1):
        image, ids = render(Settings(), Domain.TARGET, Split.TRAIN, index)
        np.testing.assert_array_equal(images[index]["image"], image)
        np.testing.assert_array_equal(labels[index]["label"], ids[:, :, None])


def test_splits_are_disjoint(built):
    hashes, names = [], []
    for part, split in all_splits():
        if part.has_image:
            for example in read(built, part, split):
                hashes.append(hashlib.sha256(example["image"].tobytes()).hexdigest())
                names.append(example["name"])
    assert len(hashes) == 2 * NUM_TRAIN + 4 * NUM_EVAL
    assert len(set(hashes)) == len(set(names)) == len(hashes)


def test_complete_datasets_are_left_alone(built_again, capsys):
    files = sorted(path for path in built_again.rglob("*") if path.is_file())
    times = [path.stat().st_mtime_ns for path in files]
    assert cli.main(["toy_cities", f"--data_dir={built_again}", *COUNTS]) == 0
    assert "4 already there" in capsys.readouterr().out
    assert sorted(path for path in built_again.rglob("*") if path.is_file()) == files
    assert [path.stat().st_mtime_ns for path in files] == times


def test_a_damaged_dataset_is_reported(tmp_path, capsys):
    arguments = ["toy_cities", f"--data_dir={tmp_path}", "--num_train=1", "--num_eval=1"]
    arguments.append("--workers=1")
    assert cli.main(arguments) == 0
    config = make_config(Part.TARGET, num_train=1, num_eval=1)
    (shard,) = datasets.directory_of(ToyCities, tmp_path, config).glob("*validation*")
    shard.unlink()
    capsys.readouterr()
    assert cli.main(arguments) == 2
    assert "not a complete toy_cities dataset" in capsys.readouterr().err
    with pytest.raises(UserError, match="write it anew with --replace"):
        prepare.is_complete(tmp_path, config)
    assert cli.main([*arguments, "--replace"]) == 0
    assert prepare.is_complete(tmp_path, config)
    for path in datasets.directory_of(ToyCities, tmp_path, config).iterdir():
        path.unlink()
    assert not prepare.is_complete(tmp_path, config)


@pytest.mark.parametrize(
    ("part", "changes", "name"),
    [
        (Part.TARGET, BOTH_SHIFTS, "target_camera0.50_appearance0.30"),
        (Part.TARGET, {"camera_shift": 0.501}, "target_camera0.501"),
        (Part.TARGET, {"appearance_shift": 1.0}, "target_appearance1.00"),
        (Part.TARGET_UNLABELLED, {"seed": 4}, "target_unlabelled_seed4"),
        (Part.TARGET_TRAIN_LABELS, {"height": 32}, "target_train_labels_32x128"),
        (Part.SOURCE, BOTH_SHIFTS, "source"),
        (Part.SOURCE, {"seed": 1, "width": 256}, "source_seed1_64x256"),
    ],
)  # fmt: skip
def test_config_names(part, changes, name):
    config = make_config(part, Settings(**changes))
    assert config.name == name
    if part == Part.SOURCE:
        assert config.settings.camera_shift == Settings().camera_shift


def test_default_configs_have_plain_names():
    assert [config.name for config in ToyCities.BUILDER_CONFIGS] == [part.value for part in Part]
    assert all(make_config(part) in ToyCities.BUILDER_CONFIGS for part in Part)
    assert make_config(Part.SOURCE).counts() == {
        Split.TRAIN: 1500, Split.VALIDATION: 200, Split.TEST: 200,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--camera_shift=1.5", "camera_shift is 1.5"),
        ("--appearance_shift=-0.1", "appearance_shift is -0.1"),
        ("--camera_shift=nan", "camera_shift is nan"),
        ("--camera_shift=much", "camera_shift"),
        ("--workers=0", "workers is 0"),
        ("--workers=9999", "workers is 9999"),
        ("--seed=-1", "seed is -1"),
        ("--height=4", "height is 4"),
        ("--width=5000", "width is 5000"),
        ("--num_train=0", "num_train is 0"),
        ("--num_eval=-3", "num_eval is -3"),
        ("--preview=sheet.jpg", ".png"),
        ("--preview=/nowhere/sheet.png", "/nowhere/sheet.png"),
        ("--colour=red", "colour"),
        ("train", "'train' is not a flag"),
    ],
)
def test_wrong_input_is_one_sentence(flag, words, tmp_path, capsys):
    data_dir = tmp_path / "datasets"
    assert cli.main(["toy_cities", f"--data_dir={data_dir}", flag]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert len(message.strip().splitlines()) == 1
    assert not data_dir.exists()


def test_unwritable_data_dir_through_the_command(tmp_path):
    (tmp_path / "file").write_text("")
    process = command(f"--data_dir={tmp_path}/file/datasets")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors.startswith("error: Cannot write in")
    assert len(errors.strip().splitlines()) == 1


def test_help(capsys):
    assert cli.main(["toy_cities", "--help"]) == 0
    assert "--camera_shift" in capsys.readouterr().out


class _Broken(SceneFactory):
    """Fails after a few scenes."""

    def scenes(self, settings, domain, split, count):
        for i, scene in enumerate(super().scenes(settings, domain, split, count)):
            if split == Split.TEST and i == 1:
                raise KeyboardInterrupt
            yield scene


def test_interrupted_build_leaves_nothing(tmp_path):
    config = make_config(Part.TARGET, num_eval=3)
    with pytest.raises(KeyboardInterrupt):
        ToyCities(factory=_Broken(), config=config, data_dir=str(tmp_path)).download_and_prepare()
    assert not list(tmp_path.rglob("*array_record*"))
    assert not prepare.is_complete(tmp_path, config)
    with pytest.raises(Exception, match="Could not read dataset info"):
        tfds.builder_from_directory(datasets.directory_of(ToyCities, tmp_path, config))
    prepare.prepare(tmp_path, [config])
    assert prepare.is_complete(tmp_path, config)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_build_leaves_nothing_that_looks_whole(tmp_path, number):
    process = command(f"--data_dir={tmp_path}", "--num_train=5000", "--workers=2")
    try:
        _wait_for_start(tmp_path, process)
        time.sleep(0.5)
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert not list(tmp_path.rglob("1.0.0"))
    if number == signal.SIGTERM:
        assert process.returncode == 130
        assert "no half dataset" in errors
        assert "Traceback" not in errors
        assert not list(tmp_path.rglob("incomplete*"))


def _wait_for_start(data_dir, process):
    for _ in range(300):
        if list(data_dir.rglob("incomplete*")):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("the build did not start")


def test_preview(tmp_path):
    path = tmp_path / "sheet.png"
    data_dir = tmp_path / "datasets"
    assert cli.main(["toy_cities", f"--preview={path}", f"--data_dir={data_dir}"]) == 0
    sheet = cv2.imread(str(path))[:, :, ::-1]
    image, labels = render(Settings(), Domain.SOURCE, Split.VALIDATION, 0)
    np.testing.assert_array_equal(sheet[: 64 * 3 : 3, : 128 * 3 : 3], image)
    road = labels == 7
    assert road.any()
    assert (sheet[64 * 3 : 128 * 3 : 3, : 128 * 3 : 3][road] == (128, 64, 128)).all()
    assert not data_dir.exists()


def test_folders_of_png_files_hold_what_the_records_do(tmp_path, capsys):
    data_dir, own = tmp_path / "datasets", tmp_path / "own"
    arguments = ["", f"--data_dir={data_dir}", f"--folders={own}", "--workers=1"]
    assert cli.main([*arguments, "--num_train=3", "--num_eval=2"]) == 0
    assert "PNG files are in" in capsys.readouterr().out
    assert cli.main([*arguments, "--num_train=3", "--num_eval=2"]) == 0  # The same once more.
    counts = {
        str(folder.relative_to(own)): len(list(folder.glob("*.png")))
        for folder in own.rglob("*")
        if folder.is_dir()
    }
    assert counts == {
        "source": 0, "source/images": 3, "source/labels": 3, "target": 0, "target/images": 3,
        "target_labelled": 0, "target_labelled/images": 2, "target_labelled/labels": 2,
        "new_frames": 2,
    }  # fmt: skip
    directory = data_dir / "toy_cities" / "target_eval2" / "1.0.0"
    for example in tfds.builder_from_directory(directory).as_data_source("validation"):
        name = f"{example['name'].decode()}.png"
        image = cv2.imread(str(own / "target_labelled" / "images" / name))[..., ::-1]
        label = cv2.imread(str(own / "target_labelled" / "labels" / name), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(image, example["image"])
        np.testing.assert_array_equal(label, example["label"][..., 0])
    mine = own / "source" / "labels" / "source_train_00001.png"
    mine.write_bytes(b"mine")
    capsys.readouterr()
    assert cli.main([*arguments, "--num_train=3", "--num_eval=2"]) == 2
    assert f"{mine} is there with other content, and nothing" in capsys.readouterr().err
    assert mine.read_bytes() == b"mine"
