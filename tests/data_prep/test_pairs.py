"""Pairs of image and label by the names that datasets and tools really use."""

import pathlib
import re
import tempfile

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_prep.image_folder import COMMAND
from data_prep.raw.files import RawFiles
from data_prep.raw.name_pairs import parse_pairs
from data_prep.raw.pair_proposals import propose
from tests.data_prep import raw_files as raw
from tests.refusals import refusal

FRAMES = ("0001TP_006690", "0016E5_07959", "Seq05VD_f00000")
CITIES = ("aachen/aachen_000000_000019", "ulm/ulm_000001_000019", "ulm/ulm_000002_000019")
ACDC = ("fog/train/GOPR0475/GOPR0475_frame_000041", "night/train/GP010376/GP010376_frame_000054")
KITTI = ("Scene01/15-deg-left", "Scene20/clone")
# Name: (the flag, images, labels, files that are neither), each in its published naming.
DATASETS = {
    "camvid": (
        "*:*_L",
        [f"images/{name}.png" for name in FRAMES],
        [f"labels/{name}_L.png" for name in FRAMES],
        ["labels/label_colors.txt"],
    ),
    "cityscapes": (
        "*_leftImg8bit:*_gtFine_labelIds",
        [f"images/{name}_leftImg8bit.png" for name in CITIES],
        [f"labels/{name}_gtFine_labelIds.png" for name in CITIES],
        [f"labels/{name}_gtFine_{kind}" for name in CITIES
         for kind in ("color.png", "instanceIds.png", "polygons.json")],
    ),
    "acdc": (
        "*_rgb_anon:*_gt_labelIds",
        [f"images/{name}_rgb_anon.png" for name in ACDC],
        [f"labels/{name}_gt_labelIds.png" for name in ACDC],
        [f"labels/{name}_gt_{kind}.png" for name in ACDC for kind in ("labelColor", "invIds")],
    ),
    "foggy": (
        "*_leftImg8bit_foggy_beta_0.02:*_gtFine_labelIds",
        [f"images/{name}_leftImg8bit_foggy_beta_0.02.png" for name in CITIES],
        [f"labels/{name}_gtFine_labelIds.png" for name in CITIES],
        [f"images/{name}_leftImg8bit_foggy_beta_{beta}.png" for name in CITIES
         for beta in ("0.01", "0.005")],
    ),
    "kitti": (
        "*/rgb/*/rgb_*:*/classSegmentation/*/classgt_*",
        [f"images/{scene}/frames/rgb/Camera_{camera}/rgb_{number:05d}.jpg"
         for scene in KITTI for camera in (0, 1) for number in (0, 1)],
        [f"labels/{scene}/frames/classSegmentation/Camera_{camera}/classgt_{number:05d}.png"
         for scene in KITTI for camera in (0, 1) for number in (0, 1)],
        ["labels/Scene01/colors.txt"],
    ),
    "masks": (
        "*:*_mask",
        [f"images/{name}.jpg" for name in FRAMES],
        [f"images/{name}_mask.png" for name in FRAMES],
        ["images/notes.txt"],
    ),
}  # fmt: skip


def folder(root, name):
    """Writes a dataset whose labels tell the position of their image; returns its folders."""
    _, images, labels, others = DATASETS[name]
    for position, (image, label) in enumerate(zip(images, labels, strict=True)):
        pixels = raw.rgb(position, 4, 6)
        data = raw.jpeg(pixels) if image.endswith("jpg") else raw.png(pixels)
        raw.write(root, {image: data, label: raw.png(np.full((4, 6), 7 + position))})
    raw.write(root, dict.fromkeys(others, b"unread"))
    return root / "images", root / labels[0].partition("/")[0]


def run(root, images, labels, *more, name="mine"):
    return COMMAND.main([
        "image_folder", "--workers=1", f"--name={name}", f"--images={images}",
        f"--labels={labels}", f"--data_dir={root / 'datasets'}", *more,
    ])  # fmt: skip


def error_of(capsys):
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    return line


@pytest.mark.parametrize("name", DATASETS)
def test_published_names(tmp_path, capsys, name):
    rule, images, _, others = DATASETS[name]
    assert run(tmp_path, *folder(tmp_path, name), f"--pairs={rule}") == 0
    examples = raw.read(tmp_path / "datasets", "image_folder/mine", "train")
    assert list(examples) == sorted(x.partition("/")[2].rpartition(".")[0] for x in images)
    for position, image in enumerate(images):
        label = examples[image.partition("/")[2].rpartition(".")[0]]["label"]
        assert (label == raw.train_ids(np.array(7 + position))).all(), image
    output = capsys.readouterr().out
    found = re.findall(r"Other files, which are not read: (\d+) \(", output)
    assert sum(map(int, found)) == len(others)


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "foggy"])
def test_the_rule_is_proposed_and_not_applied(tmp_path, capsys, name):
    rule = DATASETS[name][0]
    folders = folder(tmp_path, name)
    assert run(tmp_path, *folders) == 2
    message = error_of(capsys)
    assert f"--pairs='{rule}'" in message
    assert not (tmp_path / "datasets").exists()
    assert run(tmp_path, *folders, f"--pairs={rule}", "--check") == 0


def test_a_proposal_for_each_of_several_beta_values():
    labels = [f"{name}_gtFine_labelIds" for name in CITIES]
    images = [f"{name}_leftImg8bit_foggy_beta_{beta}" for name in CITIES for beta in (0.01, 0.02)]
    expected = {
        f"--pairs='*_leftImg8bit_foggy_beta_{beta}:*_gtFine_labelIds'" for beta in (0.01, 0.02)
    }
    assert set(propose(sorted(images), labels)) <= expected
    assert propose(sorted(images), labels)
    assert propose(["a", "b"], ["x", "y"]) == []


def test_some_names_do_not_match(tmp_path, capsys):
    """The pairs that match are no proposal; what is missing is named."""
    files = {
        f"{d}/{n}.png": raw.png(np.full((4, 6), 7)) for d in ("images", "labels") for n in "ab"
    }
    raw.write(tmp_path, files | {"images/c.png": raw.png(raw.rgb(0)), "labels/d.png": b""})
    arguments = (tmp_path / "images", tmp_path / "labels")
    assert run(tmp_path, *arguments) == 2
    message = error_of(capsys)
    assert "images without label: 1 (c.png) and labels without image: 1 (d.png)" in message
    assert "such as --pairs='*:*_mask'" in message
    assert run(tmp_path, *arguments, "--pairs=*:*_L") == 2
    assert "fits the label side of --pairs, *_L: it has a.png, b.png" in error_of(capsys)
    assert run(tmp_path, *arguments, "--skip_bad") == 0
    assert list(raw.read(tmp_path / "datasets", "image_folder/mine", "train")) == ["a", "b"]


@pytest.mark.parametrize(
    ("pairs", "files", "words"),
    [
        ("*:*_L", ["a.png", "a_L.png", "a_L.bmp"], "a_L.bmp and a_L.png would have the same name"),
        ("*:*_L", ["a.png", "a.jpg", "a_L.png"], "a.jpg and a.png would have the same name"),
        ("*-*:*_*", ["a-b_c.png", "a_b-c.png", "a_b_c.png"], "fits both sides of --pairs"),
        ("x*-*:*_*", ["xa-b_c.png", "xa_b-c.png", "a_b_c.png"],
         "a_b_c.png would be the label of xa-b_c.png and of xa_b-c.png"),
        ("a_*:*_b", ["a_x_b.png"], "a_x_b.png fits both sides of --pairs"),
        ("*", ["a.png"], "pairs is '*': expected the names of images and labels with a colon"),
        ("*:*:*", ["a.png"], "pairs is '*:*:*'"),
        ("a:b", ["a.png"], "as many * on both sides, and at least one"),
        ("*_*:*", ["a.png"], "as many * on both sides"),
        ("**/*:*", ["a.png"], "as many * on both sides"),
        ("**:**", ["a.png"], "where one * stands for any text with its folders"),
        ("/x/*:*", ["a.png"], "expected paths below the folders"),
        ("*.json:*", ["a.png"], "images have no ending .json"),
    ],
)  # fmt: skip
def test_rules_that_decide_nothing(tmp_path, capsys, pairs, files, words):
    raw.write(tmp_path / "both", {name: raw.png(np.full((4, 6), 7)) for name in files})
    assert run(tmp_path, tmp_path / "both", tmp_path / "both", f"--pairs={pairs}") == 2
    assert words in error_of(capsys)
    assert not (tmp_path / "datasets").exists()


def test_folders_inside_each_other(tmp_path, capsys):
    raw.write(tmp_path / "data", {"rgb/a.png": raw.png(raw.rgb(0)), "gt/a.png": raw.png(
        np.full((38, 70), 7))})  # fmt: skip
    data = tmp_path / "data"
    assert run(tmp_path, data, data / "gt") == 2
    assert f"--images={data} --labels={data} --pairs='*:gt/*'." in error_of(capsys)
    assert run(tmp_path, data / "rgb", data) == 2
    assert "--pairs='rgb/*:*'." in error_of(capsys)
    assert run(tmp_path, data, f"{data}/../data", "--pairs=rgb/*:gt/*") == 0
    assert list(raw.read(tmp_path / "datasets", "image_folder/mine", "train")) == ["rgb/a"]


def test_an_ending_decides_between_labels(tmp_path, capsys):
    raw.write(tmp_path / "images", {"a.png": raw.png(raw.rgb(0))})
    raw.write(tmp_path / "labels", {"a.png": raw.png(np.full((38, 70), 7)), "a.bmp": b""})
    folders = (tmp_path / "images", tmp_path / "labels")
    assert run(tmp_path, *folders) == 2
    assert "such as --pairs='*.png' for images and --pairs='*.jpg:*.png' with" in error_of(capsys)
    assert run(tmp_path, *folders, "--pairs=*.png:*.png") == 0


# The image side alone of the last one would take the masks, too.
@pytest.mark.parametrize(
    ("name", "with_label_side"),
    [
        (name, side)
        for name in DATASETS
        for side in (True, False)
        if (name, side) != ("masks", False)
    ],
)
def test_images_alone(tmp_path, capsys, name, with_label_side):
    """A target without labels, of which a rule picks the images."""
    rule, images, labels, _ = DATASETS[name]
    folder(tmp_path, name)
    rule = rule if with_label_side else rule.partition(":")[0]
    arguments = (
        "image_folder", "--workers=1", "--name=mine", f"--images={tmp_path / 'images'}",
        f"--data_dir={tmp_path / 'datasets'}", f"--pairs={rule}",
    )  # fmt: skip
    assert COMMAND.main(arguments) == 0
    examples = raw.read(tmp_path / "datasets", "image_folder/mine", "train", labelled=False)
    assert list(examples) == sorted(x.partition("/")[2].rpartition(".")[0] for x in images)
    unread = f"labels, which are not read without --labels: {len(labels)}"
    assert (unread in capsys.readouterr().out) == (name == "masks")


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ("*_a:*_b", "No file in {root}/images fits the image side of --pairs, *_a: it has x.png"),
        ("*:*_b.png", "fits the label side of --pairs, *_b.png: it has y.png; write patterns"),
        ("*", "pairs is '*': expected the names of images and labels with a colon"),
    ],
)
def test_a_rule_that_nothing_fits(tmp_path, capsys, pairs, words):
    raw.write(tmp_path, {"images/x.png": raw.png(raw.rgb(0)), "labels/y.png": b""})
    assert run(tmp_path, tmp_path / "images", tmp_path / "labels", f"--pairs={pairs}") == 2
    assert words.format(root=tmp_path) in error_of(capsys)


NAMES = st.text(st.sampled_from("ab_L/."), min_size=1, max_size=6)
PATHS = st.lists(
    st.tuples(NAMES, st.sampled_from([".png", ".jpg", ".txt"])).map("".join), max_size=6
)
RULES = st.sampled_from(["*:*", "*:*_L", "*_a:*_b", "*.png:*.jpg", "a*:b*", "*_*:*L*", "*a*:*"])


def _write_all(root: pathlib.Path, paths: list[str]) -> set[str]:
    """Writes the files whose names are possible; returns the paths that are there."""
    for path in paths:
        file = root / path.strip("/")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.resolve().is_relative_to(root.resolve()) and not file.is_dir():
                file.write_bytes(b"")
        except OSError:
            continue  # A folder of that name, or a file where a folder would be.
    return {file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file()}


@given(PATHS, PATHS, RULES, st.booleans())
@example(["a.png", "a_L.png"], [], "*:*_L", True)
def test_every_file_is_in_one_pair_or_named(images, labels, rule, one_folder):
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name, "images")
        label_root = root if one_folder else pathlib.Path(name, "labels")
        root.mkdir()
        label_root.mkdir(exist_ok=True)
        there = [_write_all(root, images)]
        there += [_write_all(label_root, labels)]
        there[0] = there[1] if one_folder else there[0]
        files = RawFiles(root)
        label_files = files if one_folder else RawFiles(label_root)
        found = []
        if refusal(lambda: found.append(parse_pairs(rule).pair(files, label_files))):
            return
        (paired,) = found
        images_of = [pair.image.path for pair in paired.pairs]
        labels_of = [pair.label.path for pair in paired.pairs]
        alone = {
            kind: [fault.file for fault in paired.faults if fault.kind == kind]
            for kind in ("images without label", "labels without image")
        }
        images_of += alone["images without label"]
        labels_of += alone["labels without image"]
        if one_folder:
            assert_all_there(files, there[0], images_of + labels_of)
        else:
            assert_all_there(files, there[0], images_of)
            assert_all_there(label_files, there[1], labels_of)


def assert_all_there(files, there, found):
    """Each file is found once, is among the others, or is hidden or below something hidden."""
    hidden = [pathlib.PurePosixPath(one.path) for one in files.passed_over]
    listed = sorted([*found, *(file.path for file in files.others())])
    assert listed == sorted(
        path for path in there
        if not any(pathlib.PurePosixPath(path).is_relative_to(one) for one in hidden)
    )  # fmt: skip
