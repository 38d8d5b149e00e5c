"""Reading label maps: every key and class is checked."""

import json

import pytest

from alp_jax.data.labels import LabelTable
from alp_jax.errors import UserError
from data_prep.raw.label_map import LabelMap, load_label_map


def load(tmp_path, text, name="map.json"):
    (tmp_path / name).write_text(text)
    return load_label_map(str(tmp_path / name))


def test_json_of_values(tmp_path):
    found = load(tmp_path, '{"0": "road", "7": "traffic light", "65535": "ignore"}')
    assert found == LabelMap(
        {0: 0, 7: 1, 65535: 255}, table=LabelTable({0: "road", 1: "traffic light"})
    )


def test_yaml_of_values(tmp_path):
    found = load(tmp_path, "0: road\n7: traffic light\ndefault: ignore\n", "map.yaml")
    assert found == LabelMap(
        {0: 0, 7: 1}, default=255, table=LabelTable({0: "road", 1: "traffic light"})
    )


def test_yaml_of_colours(tmp_path):
    found = load(tmp_path, '"#804080": road\n128,64,129: car\n', "map.yml")
    assert found == LabelMap(
        {0x804080: 0, 0x804081: 1}, is_colour=True, table=LabelTable({0: "road", 1: "car"})
    )


def test_classes_are_numbered_as_they_come_and_255_may_be_one(tmp_path):
    found = load(tmp_path, '{"255": "crack", "0": "wall", "7": "crack", "9": "ignore"}')
    assert found.stored == {255: 0, 0: 1, 7: 0, 9: 255}
    assert found.table == LabelTable({0: "crack", 1: "wall"}, frozenset({255}))
    default = load(tmp_path, '{"255": "crack", "default": "wall"}')
    assert (default.stored, default.default) == ({255: 0}, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"1": " road"}', "gives 1 the class ' road': It must be ignore or a name of letters"),
        ('{"1": "_road"}', "beginning with a letter or digit; write another"),
        ('{"1": ""}', "gives 1 the class ''"),
        ('{"1": "ignore "}', "gives 1 the class 'ignore ': did you mean ignore?"),
        ('{"1": "Ignore", "2": "car"}', "gives 1 the class 'Ignore': did you mean ignore?"),
        ('{"1": "car", "2": "IGNORE"}', "gives 2 the class 'IGNORE': did you mean ignore?"),
        ('{"1": 7}', "gives 1 the class 7"),
        ('{"1": "ignore", "default": "ignore"}', "names 0 classes: expected 1 to 255"),
        (json.dumps({i: f"c{i}" for i in range(256)}), "names 256 classes"),
        ('{"-1": "car"}', "has the key '-1': It must be a label value from 0 to 65535"),
        ('{"65536": "car"}', "has the key '65536'"),
        ('{"#12345": "car"}', "has the key '#12345'"),
        ('{"1,2,256": "car"}', "has the key '1,2,256'"),
        ('{"defualt": "car"}', "did you mean default?"),
        ('{"1": "car", "#804080": "road"}', "has 1 and #804080: expected either values"),
        (
            '{"#804080": "road", "128,64,128": "car"}',
            "names one colour twice, as '#804080' and '128,64,128'",
        ),
        ('{"default": "road"}', "has no key but default"),
        ("{}", "holds no label map"),
        ('["road"]', "holds no label map"),
        ('{"1": "road"', "is not json: "),
    ],
)
def test_wrong_maps(tmp_path, text, words):
    with pytest.raises(UserError) as error:
        load(tmp_path, text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#804080: road\n", "a colour that begins with # needs its quotes"),
        ("yes: road\n", "line 1: YAML reads yes as true: put it in quotes"),
        ("1: [road\n", "is not yaml: "),
        ("!!python/object:os.system {}\n", "is not yaml: "),
        ("1: road\n1: car\n", "the key 1 is there twice"),
        ("1: no\n", "line 1: YAML reads no as false: put it in quotes"),
        ("true: road\n", "has the key True"),
    ],
)
def test_wrong_yaml_maps(tmp_path, text, words):
    with pytest.raises(UserError) as error:
        load(tmp_path, text, "map.yaml")
    assert words in str(error.value)


def test_other_files(tmp_path):
    with pytest.raises(UserError, match=r"expected a \.json or \.yaml file, CVAT's"):
        load(tmp_path, "{}", "map.csv")
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load_label_map(str(tmp_path / "map.json"))
