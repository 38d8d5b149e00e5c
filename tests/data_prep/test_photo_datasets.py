"""CamVid and IDD-Lite: published files, lists and drives, their own classes, and label sets."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from alp_jax.data import matching
from alp_jax.data.labels import CITYSCAPES_ID_BY_NAME, CITYSCAPES_TABLE, LabelTable, load_label_set
from alp_jax.data.sources import open_source
from data_prep.camvid import COMMAND as CAMVID
from data_prep.camvid import TABLE as CAMVID_TABLE
from data_prep.idd_lite import COMMAND as IDD_LITE
from data_prep.idd_lite import TABLE as IDD_LITE_TABLE
from tests.data_prep import raw_files as raw
from tests.data_prep.test_raw_datasets import prepare
from tests.data_prep.test_raw_faults import error_of, run

# Of each video the first and last frames of the splits that have it, and what lies between.
LISTS = {
    "train": [
        "0001TP_006690", "0001TP_008520", "0006R0_f00930", "0016E5_00390", "0016E5_08640",
    ],
    "val": ["0016E5_07959", "0016E5_08159"],
    "test": [
        "0001TP_008550", "0001TP_008670", "0001TP_008700", "0001TP_009600", "0001TP_009630",
        "0001TP_009750", "0001TP_009780", "0001TP_010380", "Seq05VD_f00000", "Seq05VD_f05100",
    ],
}  # fmt: skip
DUSK = [*LISTS["train"][:2], *LISTS["test"][:8]]
DAY = {
    "train": ["0016E5_00390", "0016E5_08640"],
    "validation": ["0006R0_f00930"],
    "test": ["Seq05VD_f00000", "Seq05VD_f05100"],
}
SPLITS = {
    "official": {"train": LISTS["train"], "validation": LISTS["val"], "test": LISTS["test"]},
    "day": DAY,
    "by_sequence": {**DAY, "train": [*DUSK, *DAY["train"]]},
    "dusk": {
        "train": ["0001TP_006690", "0001TP_008520"],
        "validation": ["0001TP_009780", "0001TP_010380"],
        "test": ["0001TP_008700", "0001TP_009600"],
    },
}  # fmt: skip
# Value -> class of seven, as the tables of the datasets say; 255 for none.
CAMVID_TO_STREET = [6, 5, 4, 0, 1, 5, 4, 4, 3, 2, 255, 255]
CITYSCAPES_TO_STREET = {
    "road": 0, "sidewalk": 1, "terrain": 1, "person": 2, "rider": 2, "car": 3, "truck": 3, "bus": 3,
    "train": 3, "motorcycle": 3, "bicycle": 3, "wall": 4, "fence": 4, "pole": 4, "traffic light": 4,
    "traffic sign": 4, "building": 5, "vegetation": 5, "sky": 6,
}  # fmt: skip
CITYSCAPES_TO_CAMVID = {
    "sky": 0, "building": 1, "wall": 1, "pole": 2, "road": 3, "sidewalk": 4, "vegetation": 5,
    "traffic sign": 6, "traffic light": 6, "fence": 7, "car": 8, "truck": 8, "bus": 8, "person": 9,
    "rider": 10, "motorcycle": 10, "bicycle": 10,
}  # fmt: skip


def read(data_dir, name, split, label_set="camvid_11"):
    """Examples by name; with label_set None, images only."""
    given = None if label_set is None else load_label_set(label_set)
    source = open_source(str(data_dir), name, split, label_set=given)
    return {source[i]["name"]: source[i] for i in range(len(source))}


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_camvid(tmp_path, capsys, kind):
    raw.write(tmp_path / "raw", raw.camvid_files(LISTS, kind))
    data_dir = prepare(CAMVID, tmp_path)
    for config, splits in SPLITS.items():
        for split, names in splits.items():
            examples = read(data_dir, f"camvid/{config}", split)
            assert list(examples) == names
            for name, example in examples.items():
                expected = raw.values(raw.seed_of(name), raw.CAMVID_VALUES)
                expected = np.where(expected == 11, 255, expected)
                np.testing.assert_array_equal(example["label"], expected)
                if kind == "png":
                    np.testing.assert_array_equal(example["image"], raw.rgb(raw.seed_of(name)))
        unlabelled = tfds.builder_from_directory(data_dir / f"camvid/{config}_unlabelled/1.0.0")
        assert (set(unlabelled.info.features), set(unlabelled.info.splits)) == (
            {"image", "name"}, {"train"}
        )  # fmt: skip
        images = read(data_dir, f"camvid/{config}_unlabelled", "train", None)
        assert list(images) == splits["train"]
    output = capsys.readouterr().out
    assert "official: validation has 2 images, but 101 are published." in output
    assert "  bicyclist" in output
    metadata = json.loads((data_dir / "camvid/dusk/1.0.0/metadata.json").read_text())
    assert LabelTable.from_metadata(metadata) == CAMVID_TABLE


def test_camvid_files_and_lists_that_differ(tmp_path, capsys):
    files = raw.camvid_files(LISTS)
    del files["CamVid/test/Seq05VD_f05100.png"], files["CamVid/testannot/Seq05VD_f05100.png"]
    # The list decides on the split, not the folder.
    files["CamVid/train/0001TP_008700.png"] = files.pop("CamVid/test/0001TP_008700.png")
    files["CamVid/test/0001TP_000000.png"] = raw.png(raw.rgb(0))
    files["CamVid/testannot/0001TP_000000.png"] = raw.png(raw.values(0, raw.CAMVID_VALUES))
    raw.write(tmp_path / "raw", files)
    assert run(CAMVID, tmp_path, "--configs=official") == 0
    output = capsys.readouterr().out
    for line in (
        "test has 9 images, but 233 are published (not there: Seq05VD_f05100).",
        "1 image in no list, and not taken (CamVid/test/0001TP_000000.png).",
        "1 label in no list, and not taken (CamVid/testannot/0001TP_000000.png).",
    ):
        assert f"official: {line}" in output
    examples = read(tmp_path / "datasets", "camvid/official", "test")
    assert list(examples) == [n for n in LISTS["test"] if n != "Seq05VD_f05100"]


FRAME = "CamVid/train/0001TP_006690"
LABEL = "CamVid/trainannot/0001TP_006690.png"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"CamVid/val.txt": None}, "has no val.txt: expected one val.txt, the published list"),
        ({"old/val.txt": b""}, "has CamVid/val.txt, old/val.txt: expected one val.txt"),
        ({"CamVid/val.txt": b"\xff\xfe"}, "CamVid/val.txt cannot be read (UnicodeDecodeError"),
        (
            {"CamVid/val.txt": b"\n/a/X.png /b/Y.png;\n"},
            "Line 2 of CamVid/val.txt is '/a/X.png /b/Y.png;': expected the paths of an image and",
        ),
        (
            {"CamVid/val.txt": b"val/0001TP_006690.png valannot/0001TP_006690.png"},
            "CamVid/val.txt names 0001TP_006690, which train.txt names before",
        ),
        ({f"{FRAME}.jpg": b""}, f"files of the same name: 1 ({FRAME}.png): remove one of each"),
        ({LABEL: None}, f"images without label: 1 ({FRAME}.png)"),
        ({f"{FRAME}.png": None}, f"labels without image: 1 ({LABEL})"),
        ({LABEL: raw.png(np.full((4, 6), 12))}, f"{LABEL} holds the unknown value 12"),
        ({LABEL: raw.png(raw.rgb(1))}, f"{LABEL} is not an 8-bit palette or grey PNG"),
    ],
)
def test_faults_of_camvid(tmp_path, capsys, changes, message):
    files = raw.camvid_files({**LISTS, "test": LISTS["test"][:1]}) | changes
    files = {path: data for path, data in files.items() if data is not None}
    raw.write(tmp_path / "raw", files)
    assert run(CAMVID, tmp_path, "--configs=official") == 2
    assert message in error_of(capsys)
    assert not list((tmp_path / "datasets").rglob("1.0.0"))


def test_check_of_camvid_counts_each_configuration(tmp_path, capsys):
    raw.write(tmp_path / "raw", raw.camvid_files(LISTS))
    before = raw.listing(tmp_path)
    assert run(CAMVID, tmp_path, "--check") == 0
    captured = capsys.readouterr()
    assert "17/17" in captured.err  # Every image is read once.
    heads = [line for line in captured.out.splitlines() if "pixels in percent" in line]
    assert [line.split()[3:] for line in heads] == [["train", "validation", "test"]] * 4
    assert raw.listing(tmp_path) == before


def test_camvid_without_labels(tmp_path, capsys):
    files = raw.camvid_files(LISTS)
    raw.write(tmp_path / "raw", {path: files[path] for path in files if "annot/" not in path})
    data_dir = prepare(CAMVID, tmp_path)
    assert {path.name for path in (data_dir / "camvid").glob("[!.]*")} == {
        f"{name}_unlabelled" for name in SPLITS
    }
    assert "official: left out, because it needs train.txt, val.txt" in capsys.readouterr().out


TRAIN, VALIDATION = ["0/024541", "10/000001"], ["3/1", "18/2", "119/3", "420/4", "420/5"]


def test_idd_lite(tmp_path, capsys):
    files = raw.idd_lite_files("train", TRAIN) | raw.idd_lite_files("val", VALIDATION)
    raw.write(tmp_path / "raw", files | raw.idd_lite_files("test", ["9/9"], labels=False))
    data_dir = prepare(IDD_LITE, tmp_path)
    for config, splits in (
        ("labelled", {"train": TRAIN, "validation": VALIDATION}),
        ("by_drive", {
            "train": TRAIN, "validation": ["3/1", "119/3"], "test": ["18/2", "420/4", "420/5"],
        }),
    ):  # fmt: skip
        found = tfds.builder_from_directory(data_dir / f"idd_lite/{config}/1.0.0")
        assert set(found.info.splits) == set(splits)
        for split, names in splits.items():
            examples = read(data_dir, f"idd_lite/{config}", split, "idd_lite_7")
            assert list(examples) == sorted(names)
            for name, example in examples.items():
                expected = raw.values(raw.seed_of(name), raw.IDD_LITE_VALUES)
                np.testing.assert_array_equal(example["label"], expected)
    for split, names in (("train", TRAIN), ("test", ["9/9"])):
        assert list(read(data_dir, "idd_lite/unlabelled", split, None)) == names
    output = capsys.readouterr().out
    for line in (
        "labelled: validation has 5 images, but 204 are published.",
        "by_drive: published validation has 5 images, but 204 are published.",
        "by_drive: validation has 2 images of these, of 2 drives of odd number.",
        "by_drive: test has 3 images of these, of 2 drives of even number.",
    ):
        assert line in output
    metadata = json.loads((data_dir / "idd_lite/by_drive/1.0.0/metadata.json").read_text())
    assert LabelTable.from_metadata(metadata) == IDD_LITE_TABLE


def test_faults_of_idd_lite(tmp_path, capsys):
    files = raw.idd_lite_files("train", TRAIN)
    raw.write(tmp_path / "raw", files)
    label = "gtFine/train/0/024541_label.png"
    for data, message in (
        (raw.png(np.full((4, 6), 26)), f"{label} holds the unknown value 26"),
        (raw.png(np.full((4, 6), 255)), "255 is no class of this dataset: take the label files as"),
    ):
        raw.write(tmp_path / "raw", {path: data for path in files if path.startswith("gtFine")})
        assert run(IDD_LITE, tmp_path, "--configs=by_drive") == 2
        assert message in error_of(capsys)
    assert run(IDD_LITE, tmp_path, "--check") == 1
    output = capsys.readouterr().out
    assert "by_drive: published validation is left out, because its images are not" in output
    assert "Wrong meaning: Every pixel of the labels in train is ignored, as 255 is no" in output


def of_cityscapes(classes):
    """[256]: Cityscapes label id -> class, from the names of Cityscapes' classes."""
    expected = np.full(256, 255)
    for name, train_id in classes.items():
        expected[CITYSCAPES_ID_BY_NAME[name]] = train_id
    return expected


@pytest.mark.parametrize(
    ("name", "table", "expected"),
    [
        ("camvid_11", CAMVID_TABLE, [*range(11), *[255] * 245]),
        ("camvid_11", CITYSCAPES_TABLE, of_cityscapes(CITYSCAPES_TO_CAMVID)),
        ("idd_lite_7", IDD_LITE_TABLE, [*range(7), *[255] * 249]),
        ("idd_lite_7", CITYSCAPES_TABLE, of_cityscapes(CITYSCAPES_TO_STREET)),
        ("street_7", IDD_LITE_TABLE, [*range(7), *[255] * 249]),
        ("street_7", CAMVID_TABLE, [*CAMVID_TO_STREET, *[255] * 244]),
        ("street_7", CITYSCAPES_TABLE, of_cityscapes(CITYSCAPES_TO_STREET)),
    ],
)
def test_every_value_becomes_the_expected_class(name, table, expected):
    label_set = load_label_set(name)
    np.testing.assert_array_equal(label_set.map_table(table), expected)
    # Predictions have the values of the dataset's own label files.
    own = CAMVID_TABLE if name == "camvid_11" else IDD_LITE_TABLE
    np.testing.assert_array_equal(
        label_set.to_label_ids[: label_set.num_classes], sorted(own.names)
    )
    assert label_set.no_class in own.ignored
    colours = label_set.palette[: label_set.num_classes].astype(float)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert apart[~np.eye(len(apart), dtype=bool)].min() > 60
    assert label_set.ignored_colour == (0, 0, 0)


def test_what_a_label_set_leaves_out_is_said():
    street = load_label_set("street_7")
    assert matching.describe_unmatched("camvid/day:train", CAMVID_TABLE, street) == [
        "Ignoring classes of camvid/day:train that the label set street_7 does not name: bicyclist "
        "(nearly 'bicycle')."
    ]
    assert matching.describe_unmatched("idd", IDD_LITE_TABLE, street) == []
    assert matching.describe_unmatched("cities", CITYSCAPES_TABLE, street) == []
