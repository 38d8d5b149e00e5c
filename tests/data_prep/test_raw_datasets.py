"""Each published dataset in its own format, read back as training reads it."""

import dataclasses
import io
import json
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from scipy import io as scipy_io

from alp_jax.data import pipeline
from alp_jax.data.labels import load_label_set
from alp_jax.data.settings import DataSettings
from alp_jax.errors import UserError
from data_prep.bdd100k import COMMAND as BDD100K
from data_prep.cityscapes import COMMAND as CITYSCAPES
from data_prep.gta5 import COMMAND as GTA5
from data_prep.gta5 import Gta5
from data_prep.raw import shards
from data_prep.synthia_rand_cityscapes import COMMAND as SYNTHIA
from tests.data_prep import raw_files as raw


def prepare(command, root, *arguments):
    """Runs a command on root/raw; the prepared datasets are in root/datasets."""
    data_dir = root / "datasets"
    arguments = (f"--raw_dir={root / 'raw'}", f"--data_dir={data_dir}", *arguments)
    assert command.main(["command", "--workers=1", *arguments]) == 0
    return data_dir


def split_mat(train, validation, test):
    buffer = io.BytesIO()
    ids = {"trainIds": train, "valIds": validation, "testIds": test}
    scipy_io.savemat(buffer, {key: np.array(value)[:, None] for key, value in ids.items()})
    return buffer.getvalue()


def check_gta5(examples, numbers):
    assert list(examples) == [f"{n:05d}" for n in numbers]
    for n in numbers:
        example = examples[f"{n:05d}"]
        np.testing.assert_array_equal(example["image"], raw.rgb(n))
        np.testing.assert_array_equal(example["label"], raw.train_ids(raw.values(n, raw.ALL_IDS)))


def test_gta5_from_two_zip_parts_and_a_folder(tmp_path, capsys):
    files = raw.gta5_files(range(1, 8))
    parts = {kind: [p for p in files if p.startswith(kind)] for kind in ("images", "labels")}
    for kind, paths in parts.items():
        for number, part in enumerate((paths[:2], paths[2:4]), start=1):
            name = tmp_path / f"raw/{number:02d}_{kind}.zip"
            raw.write_zip(name, {path: files[path] for path in part})
        raw.write(tmp_path / "raw", {path: files[path] for path in paths[3:]})  # one in both
    data_dir = prepare(GTA5, tmp_path)
    check_gta5(raw.read(data_dir, "gta5/all", "train"), range(1, 8))
    output = capsys.readouterr().out
    assert "train has 7 images, but 24,966 are published (not there: 00008, 00009" in output
    assert "images a second with 1 process" in output


def test_gta5_stores_images_as_they_are_and_labels_as_grey_png(tmp_path):
    files = raw.gta5_files([1])
    raw.write(tmp_path / "raw", files)
    data_dir = prepare(GTA5, tmp_path)
    builder = tfds.builder_from_directory(data_dir / "gta5/all/1.0.0")
    decoders = {key: tfds.decode.SkipDecoding() for key in ("image", "label")}
    (stored,) = builder.as_data_source("train", decoders=decoders)
    assert stored["image"] == files["images/00001.png"]
    label = Image.open(io.BytesIO(stored["label"]))
    assert (label.format, label.mode) == ("PNG", "L")
    np.testing.assert_array_equal(np.asarray(label), raw.values(1, raw.ALL_IDS))


def test_gta5_keeps_pairs_of_different_sizes_and_names_them(tmp_path, capsys):
    files = raw.gta5_files([1, 2])
    files["labels/00002.png"] = raw.palette_png(raw.values(2, raw.ALL_IDS, 36, 64))
    raw.write(tmp_path / "raw", files)
    examples = raw.read(prepare(GTA5, tmp_path), "gta5/all", "train")
    assert examples["00002"]["image"].shape == (38, 70, 3)
    assert examples["00002"]["label"].shape == (36, 64)
    assert "images/00002.png is 38x70 (height x width), its label 36x64" in capsys.readouterr().out


@pytest.mark.parametrize("zipped", [False, True])
def test_gta5_published_split(tmp_path, capsys, zipped):
    raw.write(tmp_path / "raw", raw.gta5_files(range(1, 7)))
    mat = {"read_mapping/split.mat": split_mat([1, 3, 4], [6, 7], [2])}
    if zipped:
        raw.write_zip(tmp_path / "raw/read_mapping.zip", mat)
    else:
        raw.write(tmp_path / "raw", mat)
    data_dir = prepare(GTA5, tmp_path, "--configs=published_split")
    for split, numbers in (("train", [1, 3, 4]), ("validation", [6]), ("test", [2])):
        check_gta5(raw.read(data_dir, "gta5/published_split", split), numbers)
    output = capsys.readouterr().out
    assert "1 image in no split of split.mat" in output
    assert "validation has 1 image, but 6,382 are published" in output


@pytest.mark.parametrize("content", [None, b"no MATLAB file"])
def test_gta5_published_split_needs_split_mat(tmp_path, capsys, content):
    raw.write(tmp_path / "raw", raw.gta5_files([1]))
    if content is not None:
        raw.write(tmp_path / "raw", {"split.mat": content})
    arguments = [f"--raw_dir={tmp_path / 'raw'}", f"--data_dir={tmp_path}"]
    assert GTA5.main(["gta5", *arguments, "--configs=published_split"]) == 2
    error = capsys.readouterr().err
    assert "split.mat" in error
    assert "read_mapping.zip" in error


def test_synthia(tmp_path):
    raw.write(tmp_path / "raw", raw.synthia_files(range(3)))
    data_dir = prepare(SYNTHIA, tmp_path)
    examples = raw.read(data_dir, "synthia_rand_cityscapes/all", "train")
    assert list(examples) == ["0000000", "0000001", "0000002"]
    for n, example in enumerate(examples.values()):
        ids = raw.SYNTHIA_TO_IDS[raw.values(n, np.arange(23))]
        np.testing.assert_array_equal(example["image"], raw.rgb(n))
        np.testing.assert_array_equal(example["label"], raw.train_ids(ids))


def test_synthia_lane_marking_as_road(tmp_path):
    raw.write(tmp_path / "raw", raw.synthia_files([0]))
    data_dir = prepare(SYNTHIA, tmp_path, "--lane_marking=road")
    (example,) = raw.read(data_dir, "synthia_rand_cityscapes/all_lanes_are_road", "train").values()
    table = raw.SYNTHIA_TO_IDS.copy()
    table[22] = 7
    expected = raw.train_ids(table[raw.values(0, np.arange(23))])
    np.testing.assert_array_equal(example["label"], expected)


def test_synthia_labels_are_zero_to_pillow():
    """Why they are read with OpenCV."""
    classes = raw.values(0, np.arange(23))
    data = raw.synthia_png(classes)
    assert np.asarray(Image.open(io.BytesIO(data)))[:, :, 0].max() == 0
    exact = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(exact[:, :, 2], classes)
    assert exact[:, :, 1].max() > 255


def write_cityscapes(root, *, zipped, labels=True, test=True):
    for kind in ("leftImg8bit", "gtFine") if labels else ("leftImg8bit",):
        files = raw.cityscapes_files("train", range(3), kind)
        files |= raw.cityscapes_files("val", range(3, 5), kind)
        if test:
            files |= raw.cityscapes_files("test", range(5, 6), kind)
        if zipped:
            raw.write_zip(root / f"{kind}_trainvaltest.zip", files)
        else:
            raw.write(root, files)


@pytest.mark.parametrize("zipped", [False, True])
def test_cityscapes(tmp_path, zipped):
    write_cityscapes(tmp_path / "raw", zipped=zipped)
    data_dir = prepare(CITYSCAPES, tmp_path)
    for split, numbers in (("train", range(3)), ("validation", range(3, 5))):
        examples = raw.read(data_dir, "cityscapes/labelled", split)
        assert list(examples) == [raw.cityscapes_name(n) for n in numbers]
        for n, example in zip(numbers, examples.values(), strict=True):
            ids = raw.values(n, np.append(raw.ALL_IDS, 255))
            np.testing.assert_array_equal(example["image"], raw.rgb(n))
            np.testing.assert_array_equal(example["label"], raw.train_ids(ids))
    for split, numbers in (("train", range(3)), ("test", [5])):
        examples = raw.read(data_dir, "cityscapes/unlabelled", split, labelled=False)
        assert list(examples) == [raw.cityscapes_name(n) for n in numbers]
    stored = tfds.builder_from_directory(data_dir / "cityscapes/unlabelled/1.0.0")
    assert set(stored.info.features) == {"image", "name"}
    assert set(stored.info.splits) == {"train", "test"}


def test_cityscapes_without_labels_or_test(tmp_path, capsys):
    write_cityscapes(tmp_path / "raw", zipped=False, labels=False, test=False)
    data_dir = prepare(CITYSCAPES, tmp_path)
    output = capsys.readouterr().out
    assert "labelled: left out, because it needs leftImg8bit" in output
    assert "unlabelled: test is left out, because its images are not there" in output
    assert {path.name for path in (data_dir / "cityscapes").glob("[!.]*")} == {"unlabelled"}
    arguments = [f"--raw_dir={tmp_path / 'raw'}", f"--data_dir={data_dir}"]
    assert CITYSCAPES.main(["cityscapes", *arguments, "--configs=labelled"]) == 2
    error = capsys.readouterr().err
    assert "gtFine/{train,val}/CITY/CITY_SEQ_FRAME_gtFine_labelIds.png" in error


NEW_BDD = ("bdd100k/images/10k", "bdd100k/labels/sem_seg/masks", "")
OLD_BDD = ("bdd100k/seg/images", "bdd100k/seg/labels", "_train_id")


@pytest.mark.parametrize("layout", [NEW_BDD, OLD_BDD])
def test_bdd100k(tmp_path, layout):
    images, labels, suffix = layout
    files = {}
    for split, number in (("train", 1), ("val", 2), ("test", 3)):
        files[f"{images}/{split}/id-{number}.jpg"] = raw.jpeg(raw.rgb(number))
        if split != "test":
            mask = raw.png(raw.values(number, raw.BDD_VALUES))
            files[f"{labels}/{split}/id-{number}{suffix}.png"] = mask
    raw.write(tmp_path / "raw", files)
    data_dir = prepare(BDD100K, tmp_path)
    for split, number in (("train", 1), ("validation", 2)):
        (example,) = raw.read(data_dir, "bdd100k/labelled", split).values()
        assert example["name"] == f"id-{number}"
        # The values are train ids already.
        np.testing.assert_array_equal(example["label"], raw.values(number, raw.BDD_VALUES))
        decoded = cv2.imdecode(np.frombuffer(raw.jpeg(raw.rgb(number)), np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(example["image"], decoded[:, :, ::-1])
    (example,) = raw.read(data_dir, "bdd100k/unlabelled", "test", labelled=False).values()
    assert example["name"] == "id-3"


@pytest.mark.parametrize("kind", [raw.png, raw.jpeg])
def test_preparing_at_a_size_equals_resizing_in_the_pipeline(tmp_path, kind):
    images, labels, suffix = NEW_BDD
    files = {}
    for split, number in (("train", 1), ("val", 2)):
        files[f"{images}/{split}/id-{number}.jpg"] = kind(raw.rgb(number))
        mask = raw.png(raw.values(number, raw.BDD_VALUES))
        files[f"{labels}/{split}/id-{number}{suffix}.png"] = mask
    raw.write(tmp_path / "raw", files)
    prepare(BDD100K, tmp_path, "--configs=labelled")
    data_dir = prepare(BDD100K, tmp_path, "--configs=labelled", "--size=24,41")
    for split in ("train", "validation"):
        (full,) = raw.read(data_dir, "bdd100k/labelled", split).values()
        (small,) = raw.read(data_dir, "bdd100k/labelled_24x41", split).values()
        label_size = (24, 41) if split == "train" else None
        resized = pipeline._resize_example((24, 41), label_size, "bicubic")(full)
        np.testing.assert_array_equal(small["image"], resized["image"])
        np.testing.assert_array_equal(small["label"], resized["label"])
    assert small["label"].shape == (raw.HEIGHT, raw.WIDTH)  # scored at its own size


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"source_size": (30, 50)},
            r"source_size is 30,50 \(bicubic\), but the images of gta5/all_24x41:train were "
            r"resized to 24,41 \(bicubic\)",
        ),
        ({"target_size": (12, 20)}, r"target_size is 12,20 .* cityscapes/unlabelled_26x52:train"),
        ({"image_resize": "bilinear"}, r"source_size is 24,41 \(bilinear\), but .* \(bicubic\)"),
    ],
)
def test_images_are_not_resized_twice(tmp_path, fields, message):
    raw.write(tmp_path / "raw", raw.gta5_files([1]))
    raw.write(tmp_path / "raw", raw.cityscapes_files("train", [1], "leftImg8bit"))
    raw.write(tmp_path / "raw", raw.cityscapes_files("train", [1], "gtFine"))
    prepare(GTA5, tmp_path, "--size=24,41")
    data = DataSettings(
        data_dir=str(prepare(CITYSCAPES, tmp_path, "--size=26,52")),
        source="gta5/all_24x41",
        target="cityscapes/unlabelled_26x52",
        source_size=(24, 41),
        target_size=(26, 52),
    )
    label_set = load_label_set("cityscapes_19")

    def create_train(**fields: Any) -> None:
        changed = dataclasses.replace(data, **fields)
        pipeline.create_train_batches(
            changed, seed=0, label_set=label_set, domains=pipeline.DOMAINS
        )

    def create_eval(**fields: Any) -> None:
        changed = dataclasses.replace(data, **fields)
        dataset = {"dataset": "cityscapes/labelled_26x52", "split": "train"}
        pipeline.create_eval_batches(changed, **dataset, batch_size=1, label_set=label_set)

    create_train()
    create_eval()
    with pytest.raises(UserError, match=message):
        create_train(**fields)
    with pytest.raises(UserError, match=r"target_size is 26,53 .* cityscapes/labelled_26x52:train"):
        create_eval(**{**fields, "target_size": (26, 53)})


def test_a_size_that_images_have_changes_nothing(tmp_path):
    files = raw.gta5_files([1])
    raw.write(tmp_path / "raw", files)
    prepare(GTA5, tmp_path)
    data_dir = prepare(GTA5, tmp_path, "--size=38,70")
    records = []
    for name in ("all", "all_38x70"):
        builder = tfds.builder_from_directory(data_dir / f"gta5/{name}/1.0.0")
        decoders = {key: tfds.decode.SkipDecoding() for key in ("image", "label")}
        records += builder.as_data_source("train", decoders=decoders)
    assert records[0] == records[1]


def test_as_a_tfds_builder(tmp_path):
    raw.write(tmp_path / "raw", raw.gta5_files([1, 2]))
    builder = Gta5(config="all", data_dir=str(tmp_path / "datasets"))
    config = tfds.download.DownloadConfig(manual_dir=str(tmp_path / "raw"))
    builder.download_and_prepare(download_config=config)
    check_gta5(raw.read(tmp_path / "datasets", "gta5/all", "train"), [1, 2])
    info = json.loads((tmp_path / "datasets/gta5/all/1.0.0/dataset_info.json").read_text())
    assert info["moduleName"] == "data_prep.gta5"
    assert "gta5" not in tfds.core.registered._DATASET_REGISTRY


def test_many_files_per_split(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 30_000)  # two records
    raw.write(tmp_path / "raw", raw.gta5_files(range(1, 6)))
    data_dir = prepare(GTA5, tmp_path)
    names = {path.name for path in (data_dir / "gta5/all/1.0.0").glob("*array_record*")}
    assert names == {f"gta5-train.array_record-0000{i}-of-00003" for i in range(3)}
    check_gta5(raw.read(data_dir, "gta5/all", "train"), range(1, 6))


def test_train_ids_cover_all_classes():
    """The tests above compare all classes."""
    ids = raw.train_ids(raw.values(1, raw.ALL_IDS))
    assert set(np.unique(ids)) == {*range(load_label_set("cityscapes_19").num_classes), 255}
