"""Label sets: every file of the package, a user's own files, and how datasets match them."""

import pathlib

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from alp_jax.data import label_files, matching
from alp_jax.data.class_names import find_near, is_class_name
from alp_jax.data.colours import choose_colours
from alp_jax.data.labels import (
    CITYSCAPES_TABLE,
    IGNORE_LABEL,
    LabelSet,
    LabelTable,
    is_label_set_name,
    list_label_sets,
    load_label_set,
)
from alp_jax.errors import UserError

THREE = """
classes:
  - {name: ground, colour: [128, 64, 128], id: 7}
  - {name: vehicles, colour: [0, 0, 142], id: 255}
  - things
includes:
  ground: [road, sidewalk, ground]
  vehicles: [car, truck, bus]
reports:
  mean_iou_hard: [vehicles, things]
"""


def write(folder: pathlib.Path, text: str, name: str = "my_classes.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


# Every file of the package: a new one needs no test of its own.


@pytest.mark.parametrize("name", list_label_sets())
def test_a_label_set_of_the_package_is_sound(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    label_set = load_label_set(name)
    assert label_set.name == name
    assert 2 <= label_set.num_classes <= 255
    assert all(map(is_class_name, label_set.names))
    assert len({*label_set.names}) == len({c.label_id for c in label_set.classes})
    assert len({c.colour for c in label_set.classes}) == label_set.num_classes
    assert label_set.no_class not in {c.label_id for c in label_set.classes}
    for key, names in label_set.reports.items():
        assert key.startswith("mean_iou_")
        np.testing.assert_array_equal(np.array(label_set.names)[label_set.indices(names)], names)
    for train_id, scene_class in enumerate(label_set.classes):
        assert label_set.to_label_ids[train_id] == scene_class.label_id
        assert tuple(label_set.colourise(np.array(train_id))) == scene_class.colour
    path = write(tmp_path, label_files.write(label_set.to_fields()))
    assert load_label_set(path) == label_set
    assert load_label_set(name) is label_set
    assert is_label_set_name(name)


# A user's own.


def test_a_file_of_ones_own(tmp_path, monkeypatch):
    write(tmp_path, THREE)
    monkeypatch.chdir(tmp_path)
    label_set = load_label_set("my_classes.yaml")
    assert label_set.name == "my_classes"
    assert label_set.names == ("ground", "vehicles", "things")
    assert [c.label_id for c in label_set.classes] == [7, 255, 2]
    assert label_set.no_class == 254
    assert label_set.prediction_suffix == ""
    assert label_set.classes[0].includes == ("road", "sidewalk")
    assert label_set.partial_reports() == ("mean_iou_hard",)
    np.testing.assert_array_equal(label_set.indices(label_set.reports["mean_iou_hard"]), [1, 2])
    np.testing.assert_array_equal(label_set.to_label_ids[[0, 1, 2, 3, 255]], [7, 255, 2, 254, 254])
    assert load_label_set("my_classes.yaml") is label_set


def test_the_shortest_file(tmp_path):
    label_set = load_label_set(write(tmp_path, "classes: [background, crack]"))
    assert [c.label_id for c in label_set.classes] == [0, 1]
    assert label_set.no_class == 255
    assert label_set.reports == {}
    assert len({(0, 0, 0), (255, 255, 255), *(c.colour for c in label_set.classes)}) == 4


def test_a_file_that_changed_is_read_again(tmp_path, monkeypatch):
    path = write(tmp_path, "classes: [a, b]")
    assert load_label_set(path).names == ("a", "b")
    write(tmp_path, "classes: [a, b, c]")
    assert load_label_set(path).names == ("a", "b", "c")
    (tmp_path / "other").mkdir()
    write(tmp_path / "other", "classes: [x, y]")
    for folder, names in ((tmp_path, ("a", "b", "c")), (tmp_path / "other", ("x", "y"))):
        monkeypatch.chdir(folder)
        assert load_label_set("my_classes.yaml").names == names


def test_255_classes_are_the_most(tmp_path):
    names = [f"class {number}" for number in range(255)]
    label_set = load_label_set(write(tmp_path, f"classes: {names}"))
    assert len({c.colour for c in label_set.classes}) == label_set.num_classes == 255
    assert label_set.no_class == 255
    np.testing.assert_array_equal(label_set.to_label_ids, np.arange(256))


FAULTS = {
    "": "holds nothing: expected a key classes with a list of names; write, for example",
    "[road, car]": "holds ['road', 'car']: expected a key classes",
    "classes: [road": "is not YAML (",
    "classes: [a, b]\nclasses: [a, c]": "the key 'classes' is there twice",
    "!!python/object:os.system {}": "is not YAML (",
    "classes: 3": "has 3: expected a list of 2 to 255 classes",
    "classes: [crack]": "has 1 class: expected a list of 2 to 255 classes; for one kind of object",
    f"classes: {list(range(256))}": "has 256 classes: expected a list of 2 to 255 classes",
    "classes: [a, b]\ncolors: 1": "has the key 'colors': expected only classes, includes,",
    "classes: [a, b]\nreport: 1": "did you mean reports?",
    "classes: [a, {name: b, color: [1, 2, 3]}]": "has the key 'color' in class number 2",
    "classes: [a, 7]": "has 7 as class number 2: expected a name, or name with colour and id",
    "classes: [yes, a]": "is not YAML (line 1: YAML reads yes as true: put it in quotes)",
    "classes: [true, a]": "has True as class number 1",
    "classes: [a, {id: 3}]": "has {'id': 3} as class number 2",
    "classes: [a, {name: 7}]": "has 7 as name in class number 2: expected letters, digits",
    "classes: [a, _b]": "has '_b' as name in class number 2",
    "classes: [a, ignore]": "but not ignore; rename it",
    "classes: [a, a]": "has two classes 'a': expected another name for each class",
    "classes: [{name: a, id: 1}, b]": "the classes 'a' and 'b' with the same id 1",
    "classes: [a, {name: b, id: 256}]": "gives class 'b' the id 256: expected a whole number from",
    "classes: [a, {name: b, id: true}]": "gives class 'b' the id True",
    "classes: [a, {name: b, id: 1.0}]": "gives class 'b' the id 1.0",
    "classes: [a, {name: b, colour: [1, 2]}]": "gives class 'b' the colour [1, 2]: expected red,",
    "classes: [a, {name: b, colour: [1, 2, 256]}]": "the colour [1, 2, 256]",
    "classes: [a, {name: b, colour: '#ffffff'}]": "the colour '#ffffff'",
    "classes: [{name: a, colour: [1, 2, 3]}, {name: b, colour: [1, 2, 3]}]": (
        "the classes 'a' and 'b' with the same colour [1, 2, 3]: expected another colour"
    ),
    "classes: [a, b]\nincludes: [a]": "has includes: ['a']: expected includes of the form v",
    "classes: [a, b]\nincludes: {a: car}": "has a: 'car': expected includes of the",
    "classes: [a, b]\nincludes: {c: [car]}": "includes classes in 'c', which is none",
    "classes: [vehicles, b]\nincludes: {vehicle: [car]}": "did you mean 'vehicles'?",
    "classes: [a, b]\nincludes: {a: [car], b: [car]}": "includes 'car' in 'b', but it is in 'a'",
    "classes: [a, b]\nincludes: {a: [b]}": "includes 'b' in 'a', but it is a class itself too",
    "classes: [a, b]\nincludes: {a: [car, car]}": "includes 'car' twice in 'a'",
    "classes: [a, b]\nincludes: {a: [7]}": "has 7 as an included class of 'a'",
    "classes: [a, b]\nreports: {mean_iou_x: [c]}": "has 'c' in the report mean_iou_x",
    "classes: [a, b]\nreports: {mean_iou_x: []}": "has no class in the report mean_iou_x",
    "classes: [a, b]\nreports: {mean_iou_x: [a, a]}": "has one class twice in",
    "classes: [a, b]\nreports: {mean_iou: [a]}": "has the report 'mean_iou': expected mean_iou_",
    "classes: [a, b]\nreports: {traffic: [a]}": "has the report 'traffic'",
    "classes: [a, b]\nreports: {mean_iou_x: a}": "has mean_iou_x: 'a': expected reports of",
    "classes: [a, b]\nno_class: 1": "has no_class 1, the id of class 'b': expected a whole number",
    "classes: [a, b]\nno_class: 256": "has no_class 256: expected",
    "classes: [a, b]\nno_class: [1]": "has no_class [1]: expected",
    "classes: [a, b]\nprediction_suffix: a/b": "has prediction_suffix 'a/b': expected letters",
    "classes: [a, b]\nname: 7": "has name: 7: expected a text",
}


@pytest.mark.parametrize("text", FAULTS, ids=range(len(FAULTS)))
def test_a_fault_in_a_file_is_one_sentence(text, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        load_label_set(path)
    assert FAULTS[text] in str(error.value)
    assert path in str(error.value)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_a_label_set_that_is_nowhere_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no label set file mine.yaml in .*: expected a YAML file"):
        load_label_set("mine.yaml")
    with pytest.raises(
        UserError, match=r"no label set 'cityscape_19': expected one of camvid_11, citys"
    ):
        load_label_set("cityscape_19")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UserError, match=r"folder.yaml cannot be read \(Is a directory\)"):
        load_label_set("folder.yaml")
    (tmp_path / "latin.yml").write_bytes("classes: [a, caf\xe9]".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin.yml cannot be read \(line 1: byte 0xe9 is not"):
        load_label_set("latin.yml")
    assert not is_label_set_name("mine")
    assert not is_label_set_name(19)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 300) | st.text(max_size=3) | st.just("road"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
CLASSES = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abcd") | JSON}, optional={"id": JSON, "colour": JSON}
    )
    | st.sampled_from("abcd"),
    max_size=4,
)
FILES = st.fixed_dictionaries(
    {"classes": CLASSES | JSON},
    optional={
        "includes": st.dictionaries(st.sampled_from("ab"), st.lists(st.sampled_from("xya"))) | JSON,
        "reports": st.dictionaries(st.just("mean_iou_x"), st.lists(st.sampled_from("ab"))) | JSON,
        "no_class": JSON,
        "prediction_suffix": JSON,
        "name": JSON,
        "other": JSON,
    },
)


@given(FILES | JSON)
def test_any_content_is_a_sound_label_set_or_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(label_files.write(content))
    fault = ""
    try:
        label_set = LabelSet.from_fields(label_files.read(path))
    except UserError as error:
        fault = str(error)
    assert "\n" not in fault
    if fault:
        return
    path.write_text(label_files.write(label_set.to_fields()))
    assert LabelSet.from_fields(label_files.read(path)) == label_set
    assert label_set.no_class not in {c.label_id for c in label_set.classes}
    assert len(label_set.train_id_by_name) == sum(1 + len(c.includes) for c in label_set.classes)


def test_chosen_colours_are_apart():
    taken = [(128, 64, 128), (0, 0, 142)]
    colours = choose_colours(12, taken)
    everything = np.array([(0, 0, 0), (255, 255, 255), *taken, *colours], float)
    apart = np.linalg.norm(everything[:, None] - everything[None], axis=-1)
    assert apart[~np.eye(len(apart), dtype=bool)].min() > 60
    assert choose_colours(3, taken) == colours[:3]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("traffic_light", "traffic light"),
        ("Traffic-Light", "traffic light"),
        ("Car", "car"),
        ("raod", "road"),
        ("dog", None),
    ],
)
def test_near_names(name, near):
    assert find_near(name, ["road", "car", "traffic light"]) == near


# Datasets: values -> names -> train ids.


CAMVID = LabelTable(
    dict(enumerate(["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car",
                    "pedestrian", "bicyclist"])), frozenset({11})
)  # fmt: skip
IDD = LabelTable(
    dict(enumerate(["drivable", "non-drivable", "living things", "vehicles", "roadside objects",
                    "far objects", "sky"]))
)  # fmt: skip
COARSE = """
classes: [drivable, non-drivable, living things, vehicles, roadside objects, far objects, sky]
includes:
  drivable: [road]
  non-drivable: [pavement]
  living things: [pedestrian]
  vehicles: [car]
  roadside objects: [pole, sign, fence]
  far objects: [building, tree]
"""


def test_two_datasets_are_matched_by_name_many_to_one(tmp_path):
    coarse = load_label_set(write(tmp_path, COARSE))
    np.testing.assert_array_equal(coarse.map_table(IDD), [*range(7), *[255] * 249])
    camvid = [6, 5, 4, 0, 1, 5, 4, 4, 3, 2, 255, 255]
    np.testing.assert_array_equal(coarse.map_table(CAMVID), [*camvid, *[255] * 244])
    assert matching.describe_unmatched("idd", IDD, coarse) == []
    assert matching.describe_unmatched("camvid", CAMVID, coarse) == [
        "Ignoring classes of camvid that the label set my_classes does not name: bicyclist."
    ]


def test_what_only_one_side_has_is_said(tmp_path):
    label_set = load_label_set(write(tmp_path, "classes: [road, traffic light, tram]"))
    table = LabelTable({0: "road", 3: "traffic_light", 7: "kerb"})
    assert matching.describe_unmatched("mine:train", table, label_set) == [
        "Ignoring classes of mine:train that the label set my_classes does not name: "
        "traffic_light (nearly 'traffic light'), kerb.",
        "Classes of the label set my_classes that mine:train never has: traffic light, tram.",
    ]
    matching.check_shared("mine:train", table, label_set)
    for name in list_label_sets():
        told = matching.describe_unmatched("any", CITYSCAPES_TABLE, load_label_set(name))
        ignored = "Ignoring classes of any that the label set {} does not name: terrain, train."
        assert told == ([ignored.format(name)] if name == "camvid_11" else [])
    ours = matching.describe_unmatched("cities", CITYSCAPES_TABLE, label_set)
    assert "does not name: sidewalk, building," in ours[0]
    assert "and 5 more" in ours[0]
    assert ours[1].endswith("never has: tram.")


def test_a_dataset_that_shares_no_class_is_refused(tmp_path):
    label_set = load_label_set(write(tmp_path, "classes: [Crack, wall_]"))
    table = LabelTable({0: "background", 1: "crack"})
    with pytest.raises(UserError) as error:
        matching.check_shared("mine:train", table, label_set)
    assert str(error.value) == (
        "Dataset mine:train has the classes background, crack, of which the label set my_classes "
        "names none ('crack' is nearly 'Crack'): expected at least one of Crack, wall_; name the "
        "dataset's classes in config.data.label_set, or prepare it again with a --label_map that "
        "uses these names."
    )
    with pytest.raises(UserError, match="cities has the Cityscapes label ids, of which the label"):
        matching.check_shared("cities", CITYSCAPES_TABLE, load_label_set(
            write(tmp_path, "classes: [background, crack]")
        ))  # fmt: skip


def test_a_table_is_kept_in_metadata():
    metadata = CAMVID.to_metadata()
    assert metadata["label_values"]["3"] == "road"
    assert LabelTable.from_metadata(metadata) == CAMVID
    assert (
        LabelTable.from_metadata(None) is LabelTable.from_metadata({"resized_to": [1, 2]}) is None
    )
    assert CAMVID.is_known.sum() == 12
    assert LabelTable({0: "a", 9: "b"}).describe() == "0 (a), 9 (b), or 255 for pixels to ignore"
    assert LabelTable({4: "a", 0: "b", 2: "a"}).class_names == ("b", "a")


@pytest.mark.parametrize(
    "change",
    [
        {"label_values": {}},
        {"label_values": {"x": "road"}},
        {"label_values": {"3": 7}},
        {"label_values": {"300": "road"}},
        {"label_values": {"11": "road"}},
        {"label_values": ["road"]},
        {"ignored_label_values": 3},
        {"ignored_label_values": None},
    ],
)
def test_damaged_metadata_is_an_error_that_readers_explain(change):
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        LabelTable.from_metadata({**CAMVID.to_metadata(), **change})
    with pytest.raises(KeyError):
        LabelTable.from_metadata({"label_values": {"0": "road"}})


def test_values_of_cityscapes_that_no_class_has_are_ignored():
    train_ids = load_label_set("cityscapes_19").map_table(CITYSCAPES_TABLE)
    assert (train_ids[[0, 1, 2, 3, 4, 9, 34, 255]] == IGNORE_LABEL).all()
