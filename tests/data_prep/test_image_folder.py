"""Anyone's images: formats, modes and sizes; labels with a map of values or colours."""

import json
import os
import socket

import cv2
import numpy as np
import pytest
from PIL import Image

from alp_jax.data import pipeline
from data_prep.image_folder import COMMAND
from tests.data_prep import raw_files as raw

CLASSES = {"1": "road", "2": "car", "3": "ignore", "300": "sky"}
IDS = {1: 7, 2: 26, 3: 0, 300: 23}
COLOURS = {"#804080": "road", "0,0,142": "car", "255, 255, 255": "ignore"}
COLOUR_IDS = {(128, 64, 128): 7, (0, 0, 142): 26, (255, 255, 255): 0}


def run(root, *arguments, images="frames"):
    arguments = (f"--images={root / images}", f"--data_dir={root / 'datasets'}", *arguments)
    return COMMAND.main(["image_folder", "--workers=1", "--name=mine", *arguments])


def error_of(capsys):
    lines = capsys.readouterr().err.splitlines()
    return next(line for line in lines if line.startswith("error:"))


def grey16(pixels):
    return raw.file_bytes(Image.fromarray(pixels.astype(np.uint16)))


def modes():
    """File name -> (file, the RGB pixels that it shows)."""
    pixels = raw.rgb(0, 31, 45)
    grey = pixels[:, :, 0]
    image, grey_image = Image.fromarray(pixels), Image.fromarray(grey)
    grey_rgb = np.repeat(grey[:, :, None], 3, axis=2)
    palette = image.convert("P")
    palette.info["transparency"] = bytes(range(256))
    rgba = image.convert("RGBA")
    rgba.putalpha(grey_image)
    cmyk = image.convert("CMYK")
    rgb16 = pixels.astype(np.uint16) * 256 + 77
    return {
        "rgb.png": (raw.png(pixels), pixels),
        "rgb_bmp.bmp": (raw.file_bytes(image, "BMP"), pixels),
        "rgb_tiff.tiff": (raw.file_bytes(image, "TIFF"), pixels),
        "lossless.webp": (raw.file_bytes(image, "WEBP", lossless=True), pixels),
        "UPPER.PNG": (raw.png(pixels), pixels),
        "deep/er/rgb.png": (raw.png(pixels), pixels),
        "grey.png": (raw.file_bytes(grey_image), grey_rgb),
        "bits.png": (
            raw.file_bytes(Image.fromarray(grey > 99)),
            np.repeat((grey > 99)[:, :, None] * np.uint8(255), 3, axis=2),
        ),
        "grey16.png": (grey16(grey.astype(np.uint16) * 256 + 99), grey_rgb),
        "grey16_tif.tif": (
            raw.file_bytes(Image.fromarray(grey.astype(np.uint16) * 256 + 99), "TIFF"),
            grey_rgb,
        ),
        "rgb16.png": (cv2.imencode(".png", rgb16[:, :, ::-1])[1].tobytes(), pixels),
        "palette.png": (raw.file_bytes(palette), np.asarray(image.convert("P").convert("RGB"))),
        "rgba.png": (raw.file_bytes(rgba), pixels),
        "colour_key.png": (raw.file_bytes(image, transparency=(1, 2, 3)), pixels),
        "cmyk.tiff": (raw.file_bytes(cmyk, "TIFF"), np.asarray(cmyk.convert("RGB"))),
    }


def test_formats_and_modes(tmp_path):
    files = modes()
    raw.write(tmp_path / "frames", {name: data for name, (data, _) in files.items()})
    raw.write(tmp_path / "frames", {"notes.txt": b"", "._rgb.png": b"", "__MACOSX/a.png": b""})
    assert run(tmp_path) == 0
    examples = raw.read(tmp_path / "datasets", "image_folder/mine", "train", labelled=False)
    assert len(examples) == len(files)
    for name, (_, pixels) in files.items():
        example = examples[name.rsplit(".", 1)[0]]
        np.testing.assert_array_equal(example["image"], pixels, err_msg=name)


def test_two_images_of_one_name_are_refused(tmp_path, capsys):
    raw.write(tmp_path / "frames", {"a/b.png": raw.png(raw.rgb(0)), "a/b.jpg": b"", "b.png": b""})
    assert run(tmp_path) == 2
    assert "a/b.jpg and a/b.png would have the same name, a/b: rename or" in error_of(capsys)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(), ("--size=20,24",)])
def test_turned_photographs_are_upright(tmp_path, orientation, size):
    image = Image.fromarray(raw.rgb(1, 32, 48)).resize((48, 32))
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw.write(tmp_path / "frames", {"a.jpg": raw.file_bytes(image, "JPEG", exif=exif)})
    assert run(tmp_path, *size) == 0
    name = "mine_20x24" if size else "mine"
    examples = raw.read(tmp_path / "datasets", f"image_folder/{name}", "train", labelled=False)
    stored = np.asarray(Image.open(tmp_path / "frames/a.jpg"))
    turns = {  # EXIF 2.3, section 4.6.4: where row 0 and column 0 of the file belong
        1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1],
        5: stored.transpose(1, 0, 2), 6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(stored),
    }  # fmt: skip
    expected = np.ascontiguousarray(turns[orientation])
    if size:
        expected = pipeline.resize(expected, (20, 24), pipeline.RESAMPLING["bicubic"])
    np.testing.assert_array_equal(examples["a"]["image"], expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_images_are_refused(tmp_path, capsys, mode):
    image = Image.fromarray(raw.rgb(1)[:, :, 0]).convert(mode)
    raw.write(tmp_path / "frames", {"a.tiff": raw.file_bytes(image, "TIFF")})
    assert run(tmp_path) == 2
    assert "a.tiff holds 32-bit values" in error_of(capsys)


def prepare_labels(root, label_map, masks, *arguments):
    """Prepares images and masks {path: file}; label_map None: Cityscapes ids."""
    for path in masks:
        raw.write(root / "frames", {path.rsplit(".", 1)[0] + ".jpg": raw.jpeg(raw.rgb(0))})
    raw.write(root / "masks", masks)
    if label_map is not None:
        (root / "map.json").write_text(json.dumps(label_map))
        arguments = (f"--label_map={root / 'map.json'}", *arguments)
    return run(root, f"--labels={root / 'masks'}", "--split=validation", *arguments)


def labels_of(root, name="image_folder/mine"):
    examples = raw.read(root / "datasets", name, "validation")
    return {name: example["label"] for name, example in examples.items()}


def mapped(pixels, ids):
    return raw.train_ids(np.vectorize(ids.get)(pixels))


def test_a_map_of_values(tmp_path):
    small, large = raw.values(0, np.array([1, 2, 3])), raw.values(1, np.array([*IDS]))
    masks = {
        "grey.png": raw.png(small),
        "sub/palette.png": raw.palette_png(small),
        "grey.bmp": raw.file_bytes(Image.fromarray(small.astype(np.uint8)), "BMP"),
        "grey16.png": grey16(large),
        "grey16.tif": raw.file_bytes(Image.fromarray(large.astype(np.uint16)), "TIFF"),
    }
    masks["bmp.bmp"] = masks.pop("grey.bmp")
    masks["tif.tif"] = masks.pop("grey16.tif")
    assert prepare_labels(tmp_path, CLASSES, masks) == 0
    labels = labels_of(tmp_path)
    for name in ("grey", "sub/palette", "bmp"):
        np.testing.assert_array_equal(labels[name], mapped(small, IDS))
    for name in ("grey16", "tif"):
        np.testing.assert_array_equal(labels[name], mapped(large, IDS))


def test_a_map_of_colours(tmp_path):
    colours = np.array([*COLOUR_IDS], np.uint8)
    index = raw.values(0, np.arange(3))
    image = Image.fromarray(colours[index])
    masks = {
        "rgb.png": raw.file_bytes(image),
        "rgba.png": raw.file_bytes(image.convert("RGBA")),
        "palette.png": raw.file_bytes(image.convert("P", palette=Image.Palette.ADAPTIVE)),
    }
    assert prepare_labels(tmp_path, COLOURS, masks) == 0
    expected = raw.train_ids(np.array([*COLOUR_IDS.values()])[index])
    for label in labels_of(tmp_path).values():
        np.testing.assert_array_equal(label, expected)


def test_without_a_map_labels_hold_cityscapes_ids(tmp_path, capsys):
    ids = raw.values(0, np.append(raw.ALL_IDS, 255))
    assert prepare_labels(tmp_path, None, {"a.png": raw.png(ids)}) == 0
    np.testing.assert_array_equal(labels_of(tmp_path)["a"], raw.train_ids(ids))
    raw.write(tmp_path / "masks", {"a.png": raw.png(ids + 1)})
    assert prepare_labels(tmp_path, None, {}, "--name=again") == 2
    assert "a.png holds the unknown value 35: " in error_of(capsys)


def test_labels_keep_their_size_in_validation_but_not_in_train(tmp_path):
    masks = {"a.png": raw.png(raw.values(0, np.array([1, 2])))}
    assert prepare_labels(tmp_path, CLASSES, masks, "--size=20,30") == 0
    assert labels_of(tmp_path, "image_folder/mine_20x30")["a"].shape == (38, 70)
    assert prepare_labels(tmp_path, CLASSES, {}, "--size=20,30", "--split=train", "--name=t") == 0
    examples = raw.read(tmp_path / "datasets", "image_folder/t_20x30", "train")
    assert examples["a"]["label"].shape == examples["a"]["image"].shape[:2] == (20, 30)


@pytest.mark.parametrize(
    ("label_map", "mask", "words"),
    [
        (CLASSES, raw.png(np.full((4, 5), 9)), "a.png holds the unknown value 9"),
        (COLOURS, raw.png(np.full((4, 5, 3), 9)), "a.png holds the unknown value #090909"),
        (CLASSES, raw.png(raw.rgb(0)), "with colours as keys of the --label_map"),
        (CLASSES, raw.jpeg(raw.rgb(0)), "a.png is a JPEG file, which may not keep values exactly"),
        (COLOURS, grey16(np.full((4, 5), 9)), "more than 8 bits per channel"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_read(tmp_path, capsys, label_map, mask, words):
    assert prepare_labels(tmp_path, label_map, {"a.png": mask}) == 2
    assert words in error_of(capsys)


def test_default_takes_all_other_values_and_says_which(tmp_path, capsys):
    pixels = raw.values(0, np.array([1, 2, 9, 200]))
    label_map = {"1": "road", "default": "sky"}
    assert prepare_labels(tmp_path, label_map, {"a.png": raw.png(pixels)}) == 0
    assert "Under default of the label map: 2, 200, 9." in capsys.readouterr().out
    expected = raw.train_ids(np.where(pixels == 1, 7, 23))
    np.testing.assert_array_equal(labels_of(tmp_path)["a"], expected)


def test_an_image_without_label_is_bad(tmp_path, capsys):
    raw.write(tmp_path / "frames", {"b.png": raw.png(raw.rgb(0))})
    masks = {"a.png": raw.png(np.full((38, 70), 1))}
    assert prepare_labels(tmp_path, CLASSES, masks) == 2
    assert "images without label: 1 (b.png)" in error_of(capsys)
    assert prepare_labels(tmp_path, CLASSES, masks, "--check") == 1
    assert "b.png has no label" in capsys.readouterr().out
    assert prepare_labels(tmp_path, CLASSES, masks, "--skip_bad") == 0
    assert list(labels_of(tmp_path)) == ["a"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--name=my/camera"], "--name is 'my/camera': expected letters"),
        (["--label_map=map.json"], "--label_map is given without --labels"),
        (["--split=val"], "split"),
        (["--images=nowhere"], "nowhere does not exist: give the folder"),
        (["--labels={root}/frames/labels"], "one is inside the other"),
        (["--labels={root}/empty"], "has nothing for configuration mine"),
        (["--labels={root}/nowhere"], "nowhere does not exist: give the folder"),
    ],
)
def test_wrong_input(tmp_path, capsys, arguments, words):
    raw.write(tmp_path / "frames", {"a.png": raw.png(raw.rgb(0))})
    (tmp_path / "empty").mkdir()
    arguments = [argument.replace("{root}", str(tmp_path)) for argument in arguments]
    assert run(tmp_path, *arguments) == 2
    assert words in error_of(capsys)
    assert not (tmp_path / "datasets").exists()


UNREADABLE = {
    "phone.HEIC": "phone.HEIC is an image of a kind that is not read (HEIC)",
    "day/camera.NEF": "day/camera.NEF is an image of a kind that is not read (NEF)",
    "gone.png": "gone.png is a link to nothing",
    "gone": "gone is a link to nothing",
    "socket.png": "socket.png is neither a file nor a folder (socket)",
}


def write_unreadable(root, name):
    raw.write(root / "frames", {"a.png": raw.png(raw.rgb(0)), "b.png": raw.png(raw.rgb(1))})
    path = root / "frames" / name
    path.parent.mkdir(exist_ok=True)
    if name.startswith("gone"):
        path.symlink_to("nowhere")
    elif name.startswith("socket"):
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(os.path.relpath(path))
    else:
        path.write_bytes(b"content")


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_a_fault(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_unreadable(tmp_path, name)
    assert run(tmp_path, "--name=mine", "--check") == 1
    output = capsys.readouterr().out
    assert UNREADABLE[name] in output
    assert "Something is wrong with 1 file" in output
    assert run(tmp_path, "--name=mine") == 2
    message = error_of(capsys)
    assert f"1 ({name})" in message
    assert "--skip_bad leaves these out" in message
    assert not (tmp_path / "datasets").exists()
    assert run(tmp_path, "--name=mine", "--skip_bad") == 0
    assert UNREADABLE[name] in capsys.readouterr().out


def test_what_cannot_be_read_among_labels_is_a_fault(tmp_path, capsys):
    masks = {"a.png": raw.png(raw.values(0, np.array([7, 26])))}
    label_map = {"7": "road", "26": "car"}
    assert prepare_labels(tmp_path, label_map, masks, "--check") == 0
    (tmp_path / "masks" / "gone").symlink_to("nowhere")
    assert prepare_labels(tmp_path, label_map, masks, "--check") == 1
    assert f"{tmp_path / 'masks' / 'gone'} is a link to nothing" in capsys.readouterr().out
    assert prepare_labels(tmp_path, label_map, masks) == 2
    assert "There are links to nothing: 1 (" in error_of(capsys)


def test_a_raw_file_beside_its_jpeg_is_no_fault(tmp_path, capsys):
    raw.write(tmp_path / "frames", {"a.jpg": raw.jpeg(raw.rgb(0)), "a.NEF": b"", "b.heic": b""})
    assert run(tmp_path, "--name=mine", "--check", "--pairs=*.jpg") == 0
    (tmp_path / "frames" / "b.heic").unlink()
    assert run(tmp_path, "--name=mine") == 0
    assert "Other files, which are not read: 1 (a.NEF)." in capsys.readouterr().out
