"""Label maps read strictly, masks of every bit depth, CVAT's exports and labelme's shapes."""

import base64
import json
import pathlib
import struct
import tempfile
import zlib

import cv2
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alp_jax.data.labels import LabelTable, load_label_set
from alp_jax.data.yaml_text import format_yaml, parse_yaml
from alp_jax.errors import UserError
from data_prep.image_folder import COMMAND
from data_prep.raw.label_map import LabelMap, load_label_map
from data_prep.raw.labelme import ShapeMap
from data_prep.raw.layout import FaultError
from tests.data_prep import raw_files as raw
from tests.refusals import refusal

HEIGHT, WIDTH = 38, 70
IMAGE = raw.jpeg(raw.rgb(0))


def prepare(root, masks, label_map=None, *more, map_name="map.yaml", name="mine"):
    """Prepares images and labels {path: file}; returns (exit status, labels by name)."""
    for path in masks:
        raw.write(root / "frames", {path.rsplit(".", 1)[0] + ".jpg": IMAGE})
    raw.write(root / "masks", masks)
    arguments = [f"--name={name}", f"--images={root / 'frames'}", f"--labels={root / 'masks'}"]
    if label_map is not None:
        (root / map_name).write_text(label_map, encoding="utf-8")
        arguments.append(f"--label_map={root / map_name}")
    status = COMMAND.main(
        ["image_folder", "--workers=1", f"--data_dir={root / 'datasets'}", *arguments, *more]
    )
    if status != 0 or "--check" in more:
        return status, {}
    examples = raw.read(root / "datasets", f"image_folder/{name}", "train")
    return status, {name: example["label"] for name, example in examples.items()}


def error_of(capsys):
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    return line


def train_id(name):
    return 255 if name is None else load_label_set("cityscapes_19").names.index(name)


# Maps that say a thing twice, or something else than they seem to --------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7: road\n7: car\n", "line 2: the key 7 is there twice"),
        ("7: road\n8: car\n7: road\n", "line 3: the key 7 is there twice"),
        ("7: road\n'7': car\n", "line 2: '7' and 7 are one key"),
        ("1: road\n2: car\ntrue: bus\n", "line 3: true and 1 are one key"),
        ("false: bus\n0: car\n", "line 2: 0 and false are one key"),
        ("2: car\n2.0: bus\n", "line 2: 2.0 and 2 are one key"),
        ("1.0: car\ntrue: bus\n", "line 2: true and 1.0 are one key"),
        ("'7': road\n' 7': car\n", "names one value twice, as '7' and ' 7'"),
        ('"#804080": road\n"128,64,128": road\n', "names one colour twice, as '#804080' and"),
        ('"#abcdef": road\n"#ABCDEF": car\n', "names one colour twice"),
        ("default: road\ndefault: car\n1: sky\n", "line 2: the key 'default' is there twice"),
        ("010: road\n", "line 1: YAML reads 010 as 8: write 8 if that is meant, or"),
        ("'010': road\n", "has the key '010': It must be a label value"),
        ("0x10: road\n", "line 1: YAML reads 0x10 as 16"),
        ("0b11: road\n", "line 1: YAML reads 0b11 as 3"),
        ("1_0: road\n", "line 1: YAML reads 1_0 as 10"),
        ("+7: road\n", "line 1: YAML reads +7 as 7"),
        ("1:30: road\n", "line 1: YAML reads 1:30 as 90"),
        ("0o10: road\n", "line 1: 0o10 is a number for some programs"),
        ("1e1: road\n", "line 1: 1e1 is a number for some programs"),
        ("7.0: road\n", "has the key 7.0: It must be a label value"),
        ("7: road\nyes: car\n", "line 2: YAML reads yes as true: put it in quotes"),
        ("7: road\nNO: car\n", "line 2: YAML reads NO as false: put it in quotes"),
        ("7: on\n", "line 1: YAML reads on as true"),
        ("7: 2001-01-01\n", "line 1: 2001-01-01 is no text for YAML but a timestamp"),
        ("<<: {1: road}\n2: car\n", "line 1: << is no text for YAML but a merge"),
        ("1: &a road\n2: *a\n", "line 1: anchors (&) and aliases (*) are not read"),
        ("1: !!str road\n", "line 1: tags such as"),
        ("1: road\n\t2: car\n", "line 2: "),
        ("1: road\n2: [car\n", "line 3: "),
        ("1: road\n---\n2: car\n", "line 2: expected a single document in the stream"),
        ("1: ro\x07ad\n", "line 1: the character 7 is not text"),
        ("~: road\n", "has the key None"),
        ("7:\n", "gives 7 the class None"),
        ("\u0667: road\n", "has the key '\u0667'"),
    ],
)
def test_strict_yaml(tmp_path, text, words):
    (tmp_path / "map.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_label_map(str(tmp_path / "map.yaml"))
    message = str(error.value)
    assert words in message
    assert "map.yaml" in message
    assert "unicode string" not in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"7": "road", "7": "car"}', "line 1: the key '7' is there twice"),
        ('{"7": "road",\n "8": "car",\n "7": "road"}', "line 3: the key '7' is there twice"),
        ('{"7": "road",\n "\\u0037": "car"}', "line 2: the key '7' is there twice"),
        ('{"07": "road"}', "has the key '07'"),
        ('{"7": "road", "7 ": "car"}', "names one value twice, as '7' and '7 '"),
        ('{"0,0,0": "road", "0, 0, 0": "car"}', "names one colour twice"),
        ('{"7": NaN}', "NaN is no number of JSON"),
        ('{"7": "road",\n}', "line "),
    ],
)
def test_strict_json(tmp_path, text, words):
    (tmp_path / "map.json").write_text(text)
    message = refusal(lambda: load_label_map(str(tmp_path / "map.json")))
    assert words in message
    assert "map.json" in message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            "7: straße\n".encode("latin-1"),
            "map.yaml cannot be read: line 1: byte 0xdf is not UTF-8",
        ),
        ("7: a\n8: é\n".encode("cp1252"), "line 2: byte 0xe9 is not UTF-8, perhaps Latin-1: save"),
        ("7: road\n".encode("utf-16"), "cannot be read: it is UTF-16, but UTF-8 is read: save it"),
        ("7: road\n".encode("utf-32"), "cannot be read: it is UTF-32"),
    ],
)
def test_other_encodings_are_refused_in_one_sentence(tmp_path, data, words):
    (tmp_path / "map.yaml").write_bytes(data)
    assert words in refusal(lambda: load_label_map(str(tmp_path / "map.yaml")))
    (tmp_path / "set.yaml").write_bytes(data)
    message = refusal(lambda: load_label_set(tmp_path / "set.yaml"))
    assert "set.yaml cannot be read (" in message
    assert "save it as UTF-8" in message


@pytest.mark.parametrize("name", ["map.yaml", "map.json", "labelmap.txt"])
def test_a_byte_order_mark_is_no_text(tmp_path, name):
    text = {"map.yaml": "128,64,128: road\n", "map.json": '{"128,64,128": "road"}'}
    content = text.get(name, "road:128,64,128::\n")
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert load_label_map(str(tmp_path / name)).stored == {0x804080: 0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("classes: [a, b]\nclasses: [b, a]\n", "line 2: the key 'classes' is there twice"),
        ("classes:\n- {name: a, id: 010}\n- b\n", "line 2: YAML reads 010 as 8"),
        ("classes: [a, no]\n", "line 1: YAML reads no as false: put it in quotes"),
        ("classes: &x [a, b]\nincludes: {a: *x}\n", "line 1: anchors (&)"),
        ("classes: [a, b]\nno_class: 1:30\n", "line 2: YAML reads 1:30 as 90"),
    ],
)
def test_label_sets_are_read_as_strictly(tmp_path, text, words):
    (tmp_path / "set.yaml").write_text(text)
    message = refusal(lambda: load_label_set(tmp_path / "set.yaml"))
    assert words in message
    assert "set.yaml" in message


PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f\x85"
                              + "".join(map(chr, range(0x80, 0xA0)))), max_size=8)  # fmt: skip
TEXTS = PLAIN | st.sampled_from(["010", "yes", "1e3", "0o7", "1:30", "<<", "=", "~", "2001-01-01"])
CONTENT = st.recursive(
    TEXTS | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(CONTENT)
def test_what_is_written_is_read_back(content):
    assert parse_yaml(format_yaml({"content": content})) == {"content": content}


KEYS = st.integers(0, 20).map(str) | st.sampled_from(
    ["07", " 7", "#000007", "0,0,7", "0, 0,7", "default", "0x7", "7.0", "seven"]
)


@given(st.lists(st.tuples(KEYS, st.sampled_from(["road", "car", "ignore"])), min_size=1))
def test_every_entry_of_a_map_counts_or_the_map_is_refused(entries):
    """As JSON text, in which a key may be written twice."""
    text = ", ".join(f"{json.dumps(key)}: {json.dumps(name)}" for key, name in entries)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "map.json"
        path.write_text(f"{{{text}}}")
        if refusal(lambda: load_label_map(str(path))) is None:
            found = load_label_map(str(path))
            assert len(found.stored) + (found.default is not None) == len(entries)
            for key, name in entries:
                value = found.default if key == "default" else found.stored[_value(key)]
                assert (name == "ignore") == (value == 255)
                assert name == "ignore" or found.table.names[value] == name


def _value(key):
    if key.startswith("#"):
        return int(key[1:], 16)
    red, green, blue = key.split(",") if "," in key else (0, 0, key)
    return int(red) << 16 | int(green) << 8 | int(blue)


# Masks of every kind -----------------------------------------------------------------------------


def few_bits(values, bits):
    """A grey PNG file of 1, 2 or 4 bits, which neither Pillow nor OpenCV writes."""

    def chunk(kind, data):
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width = values.shape
    split = (values[:, :, None] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(split.reshape(height, width * bits).astype(np.uint8), axis=1)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )  # fmt: skip


def masks_of(values):
    """Name -> a file with these values, 0 and 1, in every format in which values are read."""
    grey = values.astype(np.uint8)
    three = np.repeat(grey[:, :, None], 3, axis=2)
    rgba = np.dstack([three, np.full(grey.shape, 255, np.uint8)])
    bilevel = Image.fromarray(grey > 0)
    return {
        "bit1.png": few_bits(values, 1),
        "bit2.png": few_bits(values, 2),
        "bit4.png": few_bits(values, 4),
        "pillow1.png": raw.file_bytes(bilevel),
        "tiff1.tif": raw.file_bytes(bilevel, "TIFF"),
        "tiff1g4.tif": raw.file_bytes(bilevel, "TIFF", compression="group4"),
        "bmp1.bmp": raw.file_bytes(bilevel, "BMP"),
        "grey.png": raw.png(grey),
        "three.png": raw.png(three),
        "bmp24.bmp": raw.file_bytes(Image.fromarray(three), "BMP"),
        "rgba.png": raw.png(rgba),
        "la.png": raw.file_bytes(Image.fromarray(rgba[:, :, 2:], "LA")),
        "three16.png": cv2.imencode(".png", three.astype(np.uint16))[1].tobytes(),
        "tif48.tif": cv2.imencode(".tiff", three.astype(np.uint16))[1].tobytes(),
        "palette.png": raw.palette_png(values),
        "grey16.png": raw.file_bytes(Image.fromarray(grey.astype(np.uint16))),
    }


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated:DeprecationWarning")
def test_masks_of_every_depth_hold_their_own_values(tmp_path):
    values = raw.values(0, np.array([0, 1]))
    files = masks_of(values)
    status, labels = prepare(tmp_path, files, "0: road\n1: car\n")
    assert status == 0
    assert len(labels) == len(files)
    expected = np.where(values == 1, train_id("car"), train_id("road"))
    for name, label in labels.items():
        np.testing.assert_array_equal(label, expected, err_msg=name)


@pytest.mark.parametrize("bits", [2, 4])
def test_two_and_four_bits_are_not_stretched(tmp_path, bits):
    values = raw.values(0, np.arange(2**bits))
    label_map = "".join(f"{value}: class {value}\n" for value in range(2**bits))
    (tmp_path / "map.yaml").write_text(label_map)
    stored = load_label_map(str(tmp_path / "map.yaml")).read(few_bits(values, bits))
    np.testing.assert_array_equal(stored, values)


@pytest.mark.parametrize(
    ("mask", "label_map", "words"),
    [
        # A one-bit mask shows 255 elsewhere; a default must not swallow it.
        (few_bits(np.eye(4, dtype=int), 1), "0: road\n255: car\n",
         "has 1 bit per pixel, so values from 0 to 1, and the label map has 255, which other "
         "programs show for 1: write 1 for 255 in the label map"),
        (few_bits(np.eye(4, dtype=int), 1), "255: car\n0: road\ndefault: ignore\n", "write 1 for"),
        (few_bits(np.eye(4, dtype=int) * 2, 2), "0: road\n170: car\ndefault: sky\n",
         "write 2 for 170"),
        (few_bits(np.eye(4, dtype=int) * 7, 4), "0: road\n119: car\n", "write 7 for 119"),
        (few_bits(np.eye(4, dtype=int), 1), None, "say with --label_map what 0 to 1 mean"),
        (few_bits(np.eye(4, dtype=int), 4), None, "say with --label_map what 0 to 15 mean"),
        (raw.png(np.full((4, 6), 35)), None,
         "a.png holds the unknown value 35: say with --label_map=map.yaml what the values mean"),
        (raw.png(np.full((4, 6), 9)), "1: road\n",
         "a.png holds the unknown value 9: add it to the label map, by itself or as default"),
        (raw.png(raw.rgb(0)), None, "is a colour image, but values are expected: say what its"),
        (raw.png(raw.rgb(0)), "1: road\n", "with colours as keys of the --label_map"),
        (raw.png(np.dstack([np.ones((4, 6, 3)), np.full((4, 6), 9)])), "1: road\n",
         "has transparent pixels: save it without transparency"),
        (raw.file_bytes(Image.fromarray(raw.rgb(0)).convert("CMYK"), "TIFF"), "1: road\n",
         "has the mode CMYK"),
        (raw.file_bytes(Image.fromarray(raw.rgb(0)[:, :, 0]).convert("F"), "TIFF"), "1: road\n",
         "has the mode F"),
        (cv2.imencode(".png", raw.rgb(0).astype(np.uint16))[1].tobytes(), '"#000001": road\n',
         "has more than 8 bits per channel, but the label map has colours of 8"),
        (cv2.imencode(".png", raw.rgb(0).astype(np.uint16))[1].tobytes(), "1: road\n",
         "is a colour image, but values are expected"),
    ],
)  # fmt: skip
def test_masks_that_say_something_else(tmp_path, capsys, mask, label_map, words):
    raw.write(tmp_path / "frames", {"a.jpg": raw.jpeg(raw.rgb(0))})
    assert prepare(tmp_path, {"a.png": mask}, label_map)[0] == 2
    assert words in error_of(capsys)
    assert prepare(tmp_path, {"a.png": mask}, label_map, "--check")[0] == 1
    assert words.split(": ")[-1][1:] in capsys.readouterr().out


def test_what_a_map_names_and_no_file_holds_is_said(tmp_path, capsys):
    label_map = "1: road\n2: car\n3: car\n40000: sky\n"
    assert prepare(tmp_path, {"a.png": raw.png(raw.values(0, np.array([1, 2])))}, label_map)[0] == 0
    assert "In the label map, but in no label: 3, 40000." in capsys.readouterr().out
    assert prepare(tmp_path, {}, label_map, "--check")[0] == 0
    assert "In the label map, but in no label: 3, 40000." in capsys.readouterr().out
    assert prepare(tmp_path, {}, "1: road\n2: car\n", name="all")[0] == 0
    assert "in no label" not in capsys.readouterr().out


@given(
    hnp.arrays(np.uint16, (2, 3), elements=st.integers(0, 65_535) | st.integers(0, 3)),
    st.dictionaries(st.integers(0, 65_535) | st.integers(0, 3), st.integers(0, 9), min_size=1),
    st.none() | st.just(255),
    st.sampled_from(["L", "16", "rgb", "rgb16", "colour"]),
)
def test_any_value_gets_its_class_the_default_or_a_refusal(values, stored, default, kind):
    if kind in ("L", "rgb"):
        values = values.astype(np.uint8)
    if kind == "colour":
        data = raw.png(np.dstack([values >> 8, values & 255, values & 7]))
        values = values.astype(int) << 8 | values & 7
        stored = {key << 8 | key & 7: value for key, value in stored.items()}
    elif kind in ("rgb", "rgb16"):
        data = cv2.imencode(".png", np.repeat(values[:, :, None], 3, axis=2))[1].tobytes()
    else:
        data = raw.file_bytes(Image.fromarray(values))
    label_map = LabelMap(stored, kind == "colour", default, LabelTable({0: "road"}))
    unknown = set(values.ravel().tolist()) - stored.keys()
    if default is None and unknown:
        with pytest.raises(FaultError) as error:
            label_map.read(data)
        assert sum(error.value.values.values()) == np.isin(values, list(unknown)).sum()
        return
    expected = [[stored.get(int(value), default) for value in row] for row in values]
    found, met = label_map.read_with_keys(data)
    np.testing.assert_array_equal(found, expected)
    assert len(met) == len(set(values.ravel().tolist()))


# CVAT --------------------------------------------------------------------------------------------

LABELMAP = """\
# label:color_rgb:parts:actions
background:0,0,0::
car:0,0,142::
road:128,64,128:left,right:drive
"""


def test_an_export_of_cvat(tmp_path):
    """Segmentation mask 1.1: masks as palette or colour images in SegmentationClass."""
    colours = np.array([(0, 0, 0), (0, 0, 142), (128, 64, 128)], np.uint8)
    index = raw.values(0, np.arange(3))
    image = Image.fromarray(index.astype(np.uint8))
    image.putpalette(colours.tobytes())
    masks = {"a.png": raw.file_bytes(image), "b.png": raw.png(colours[index])}
    status, labels = prepare(tmp_path, masks, LABELMAP, map_name="labelmap.txt")
    assert status == 0
    expected = np.array([255, train_id("car"), train_id("road")])[index]
    for name, label in labels.items():
        np.testing.assert_array_equal(label, expected, err_msg=name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("road:128,64,128\n", None),
        ("road\n", "line 1: 'road', where NAME:RED,GREEN,BLUE:: is expected"),
        ("# x\n\nroad:::\n", "line 3: 'road' has the colour ''"),
        ("road:1,2::\n", "line 1: 'road' has the colour '1,2'"),
        ("road:1,2,256::\n", "has the key '1,2,256'"),
        ("road:1,2,3::\ncar:1,2,3::\n", "line 2: 'road' and 'car' have the same colour 1,2,3"),
        ("road:1,2,3::\ncar:01,2,3::\n", "names one colour twice, as '1,2,3' and '01,2,3'"),
        ("road:1,2,3::\nroad:3,2,1::\n", "line 2: the class 'road' is there twice"),
        ("road:1,2,3:::more\n", "line 1: 'road:1,2,3:::more'"),
        ("*:1,2,3::\n", "gives 1,2,3 the class '*'"),
        ("# only a comment\n", "holds no label map"),
    ],
)
def test_labelmap_txt(tmp_path, text, words):
    (tmp_path / "labelmap.txt").write_text(text)
    message = refusal(lambda: load_label_map(str(tmp_path / "labelmap.txt")))
    assert message is None if words is None else words in message


# labelme -----------------------------------------------------------------------------------------

BOX = [[10, 5], [30, 20]]
TRIANGLE = [[40.5, 4.25], [60, 30], [35, 33.75]]


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {},
            "description": "", "mask": None, **more}  # fmt: skip


def labelme(*shapes, **more):
    content = {
        "version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "a.jpg",
        "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH, **more,
    }  # fmt: skip
    return json.dumps(content, indent=2).encode()


MAP = "car: car\ntree: vegetation\n_background_: road\n"


def inside(points, margin):
    """Pixels whose centres lie in a convex polygon, at least `margin` from each of its edges."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    result = np.ones((HEIGHT, WIDTH), bool)
    for (x, y), (next_x, next_y) in zip(points, [*points[1:], points[0]], strict=True):
        edge = np.array([next_x - x, next_y - y]) / np.hypot(next_x - x, next_y - y)
        result &= edge[0] * (rows - y) - edge[1] * (columns - x) >= margin
    return result


def test_shapes_are_drawn_in_order(tmp_path):
    circle = [[20, 20], [20, 28]]
    piece = np.eye(4, dtype=np.uint8) * 255
    mask = base64.b64encode(raw.png(piece)).decode()
    files = {
        "polygon.json": labelme(shape("car", TRIANGLE)),
        "old.json": labelme({"label": "car", "points": TRIANGLE, "line_color": None}),
        "box.json": labelme(shape("car", BOX, "rectangle")),
        "turned_box.json": labelme(shape("car", BOX[::-1], "rectangle")),
        "circle.json": labelme(shape("car", circle, "circle")),
        "mask.json": labelme(shape("car", [[50, 10], [53, 13]], "mask", mask=mask)),
        "over.json": labelme(shape("car", BOX, "rectangle"), shape("tree", circle, "circle")),
        "empty.json": labelme(),
        "outside.json": labelme(shape("car", [[-5, -5], [90, -5], [90, 60], [-5, 60]])),
    }
    status, labels = prepare(tmp_path, files, MAP)
    assert status == 0
    car, tree, road = map(train_id, ("car", "vegetation", "road"))
    for name in ("polygon", "old"):
        found = labels[name] == car
        assert (found[inside(TRIANGLE, 1.0)]).all()
        assert not found[~inside(TRIANGLE, -1.5)].any()
        assert inside(TRIANGLE, 1.0).sum() > 100
    box = np.zeros((HEIGHT, WIDTH), bool)
    box[5:21, 10:31] = True
    for name in ("box", "turned_box"):
        np.testing.assert_array_equal(labels[name] == car, box)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(rows - 20, columns - 20)
    assert (labels["circle"][distance < 7] == car).all()
    assert (labels["circle"][distance > 9] == road).all()
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[10:14, 50:54] = piece > 0
    np.testing.assert_array_equal(labels["mask"] == car, expected)
    assert (labels["over"][distance < 7] == tree).all()
    assert (labels["over"][box & (distance > 9)] == car).all()
    assert (labels["empty"] == road).all()
    assert (labels["outside"] == car).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (labelme(shape("lane", [[1, 1], [5, 5]], "line")), "has 'line' as its shape number 1 "
         "('lane'), which is not drawn: make it a polygon, rectangle, circle or mask in labelme"),
        (labelme(shape("lane", [[1, 1]], "point")), "has 'point' as its shape number 1"),
        (labelme(shape("lane", TRIANGLE, "linestrip")), "has 'linestrip'"),
        (labelme(shape("dog", BOX, "rectangle")), "holds the unknown value 'dog': add it to the"),
        (labelme(shape("car", BOX)), "has 2 points for its shape number 1 ('car'), a polygon of 3"),
        (labelme(shape("car", TRIANGLE, "circle")), "a circle of 2"),
        (labelme(shape("car", "points")), "has no list of points [x, y] for its shape number 1"),
        (labelme(shape("car", [[1, 2], [3, "x"], [4, 5]])), "has no list of points [x, y]"),
        (labelme(shape("car", [[1, 2], [1e9, 3], [4, 5]])), "far outside the image: move it"),
        (labelme(shape(None, TRIANGLE)), "has no label for its shape number 1"),
        (labelme("shape"), "has no label for its shape number 1"),
        (labelme(shape("car", BOX, "mask", mask="no")), "has a mask that cannot be decoded"),
        (labelme(shape("car", BOX, "mask")), "has a mask that cannot be decoded"),
        (labelme(shape("car", BOX, "mask", mask=base64.b64encode(raw.png(np.eye(3))).decode())),
         "has a mask that does not fit its box"),
        (labelme(imageHeight=None), "has no imageHeight and imageWidth: open and save it in"),
        (labelme(imageHeight=60_000, imageWidth=60_000), "60000x60000 pixels, too many"),
        (b'{"imgHeight": 4, "objects": []}', "is no file of labelme: it has no list of shapes"),
        (b"[]", "is no file of labelme"),
        (b'{"shapes": [], "shapes": []}', "is not JSON (line 1: the key 'shapes' is there twice"),
        (b'{"shapes": [NaN]}', "is not JSON (NaN is no number"),
        ('{"shapes": "é"}'.encode("latin-1"), "is not JSON (line 1: byte 0xe9"),
        (b"", "is not JSON (line 1: Expecting value)"),
    ],
)  # fmt: skip
def test_shapes_that_cannot_be_drawn(tmp_path, capsys, content, words):
    assert prepare(tmp_path, {"a.json": content}, MAP)[0] == 2
    message = error_of(capsys)
    assert message.startswith("error: a.json ")
    assert words in message


@pytest.mark.parametrize(
    ("label_map", "words"),
    [
        (None, "holds shapes of labelme (.json): say with --label_map=map.yaml"),
        ("car: car\n", "does not say what the area without a shape is: add _background_: ignore"),
        ("car: car\ndefault: road\n", "does not say what the area without a shape is"),
        ("true: car\n_background_: ignore\n", "has the key True: expected labels of shapes"),
        ("7: car\n'7': road\n_background_: ignore\n", "'7' and 7 are one key"),
        ("_background_: ignore\n", "names 0 classes"),
    ],
)
def test_maps_of_shapes(tmp_path, capsys, label_map, words):
    assert prepare(tmp_path, {"a.json": labelme(shape("car", BOX, "circle"))}, label_map)[0] == 2
    assert words in error_of(capsys)


def test_shapes_beside_their_images_and_a_default(tmp_path, capsys):
    files = {"a.jpg": IMAGE, "a.json": labelme(shape("dog", BOX, "rectangle"))}
    raw.write(tmp_path / "frames", files)
    (tmp_path / "map.yaml").write_text("car: car\n_background_: ignore\ndefault: person\n")
    arguments = [
        "image_folder", "--workers=1", "--name=mine", f"--images={tmp_path / 'frames'}",
        f"--labels={tmp_path / 'frames'}", f"--data_dir={tmp_path / 'datasets'}",
        f"--label_map={tmp_path / 'map.yaml'}",
    ]  # fmt: skip
    assert COMMAND.main(arguments) == 2
    assert "which files are labels, if they are: --pairs='*:*.json'." in error_of(capsys)
    assert COMMAND.main([*arguments, "--pairs=*:*.json"]) == 0
    (example,) = raw.read(tmp_path / "datasets", "image_folder/mine", "train").values()
    assert set(np.unique(example["label"])) == {train_id("person"), 255}
    assert "In the label map, but in no label: car." in capsys.readouterr().out


def test_images_win_over_shapes_of_the_same_names(tmp_path, capsys):
    masks = {"a.png": raw.png(np.full((HEIGHT, WIDTH), 7)), "a.json": b"no labelme"}
    assert prepare(tmp_path, masks)[0] == 0
    assert "Other files, which are not read: 1 (a.json)" in capsys.readouterr().out


POINTS = st.lists(
    st.tuples(st.integers(-20, 90), st.integers(-20, 60)).map(list), min_size=1, max_size=5
)
SHAPES = st.builds(
    shape,
    st.sampled_from(["car", "tree", "dog"]),
    POINTS,
    st.sampled_from(["polygon", "rectangle", "circle", "line", None]),
)


SHAPE_MAP = ShapeMap(
    {"car": 0, "tree": 1, "_background_": 2}, None, LabelTable({0: "a", 1: "b", 2: "c"})
)


@given(st.lists(SHAPES, max_size=3))
def test_any_shapes_are_drawn_or_refused(shapes):
    drawable = all(
        one["label"] != "dog" and one["shape_type"] != "line"
        and (len(one["points"]) == 2 if one["shape_type"] in ("rectangle", "circle")
             else len(one["points"]) >= 3)
        for one in shapes
    )  # fmt: skip
    data = labelme(*shapes)
    if not drawable:
        with pytest.raises(FaultError):
            SHAPE_MAP(data)
        return
    values, met = SHAPE_MAP.read_with_keys(data)
    assert values.shape == (HEIGHT, WIDTH)
    assert met >= {one["label"] for one in shapes}
    assert set(np.unique(values)) <= set(SHAPE_MAP.stored.values())
