import numpy as np
import pytest

from alp_jax.data.labels import (
    CITYSCAPES_TABLE,
    IGNORE_LABEL,
    LabelClass,
    LabelSet,
    load_label_set,
)
from data_prep.raw import tables

# Cityscapes id -> train id in the 19, 16 and 13 classes, as published.
TABLE = {
    7: (0, 0, 0), 8: (1, 1, 1), 11: (2, 2, 2), 12: (3, 3, 255), 13: (4, 4, 255), 17: (5, 5, 255),
    19: (6, 6, 3), 20: (7, 7, 4), 21: (8, 8, 5), 22: (9, 255, 255), 23: (10, 9, 6),
    24: (11, 10, 7), 25: (12, 11, 8), 26: (13, 12, 9), 27: (14, 255, 255), 28: (15, 13, 10),
    31: (16, 255, 255), 32: (17, 14, 11), 33: (18, 15, 12),
}  # fmt: skip


@pytest.mark.parametrize(("column", "num_classes"), [(0, 19), (1, 16), (2, 13)])
def test_all_256_ids(column, num_classes):
    expected = [TABLE.get(value, (255, 255, 255))[column] for value in range(256)]
    label_set = load_label_set(f"cityscapes_{num_classes}")
    np.testing.assert_array_equal(label_set.map_table(CITYSCAPES_TABLE), expected)
    assert label_set.num_classes == num_classes


def test_palette_paints_classes_and_leaves_the_rest_black():
    painted = load_label_set("cityscapes_19").colourise(np.array([[0, 18, 255, 19]]))
    np.testing.assert_array_equal(painted, [[[128, 64, 128], [119, 11, 32], [0] * 3, [0] * 3]])


@pytest.mark.parametrize("name", ["cityscapes_13", "cityscapes_16", "cityscapes_19"])
def test_ignored_pixels_of_cityscapes_are_black(name):
    assert load_label_set(name).ignored_colour == (0, 0, 0)


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        ([(255, 255, 255), (0, 0, 70)], (0, 0, 0)),
        ([(0, 0, 0), (255, 255, 255)], (128, 128, 128)),
        ([(10, 10, 10), (255, 0, 0)], (128, 128, 128)),
        ([(0, 0, 0), (120, 130, 128), (255, 255, 255)], (255, 0, 0)),
    ],
)
def test_ignored_pixels_look_like_no_class(colours, expected):
    classes = tuple(LabelClass(f"c{i}", i, colour) for i, colour in enumerate(colours))
    label_set = LabelSet("mine", classes)
    assert label_set.ignored_colour == expected
    np.testing.assert_array_equal(
        label_set.colourise(np.array([0, IGNORE_LABEL])), [colours[0], expected]
    )


def test_known_ids():
    assert CITYSCAPES_TABLE.is_known[[0, 34, 255]].all()
    assert not CITYSCAPES_TABLE.is_known[35:255].any()


def test_reports_are_those_of_the_literature():
    reports = {n: dict(load_label_set(f"cityscapes_{n}").reports) for n in (19, 16, 13)}
    sixteen, thirteen = (load_label_set(f"cityscapes_{n}").names for n in (16, 13))
    assert reports[19] == reports[16] == {"mean_iou_16": sixteen, "mean_iou_13": thirteen}
    assert reports[13] == {"mean_iou_13": thirteen}


def official_labels():
    from cityscapesscripts.helpers import labels as official

    return official.labels


@pytest.mark.parametrize("num_classes", [19, 16, 13])
def test_classes_are_those_of_the_official_scripts(num_classes):
    evaluated = {label.name: label for label in official_labels() if label.trainId not in (255, -1)}
    assert len(evaluated) == 19
    label_set = load_label_set(f"cityscapes_{num_classes}")
    for scene_class in label_set.classes:
        label = evaluated[scene_class.name]
        assert scene_class.label_id == label.id
        assert scene_class.colour == label.color
    # The order is that of the official train ids, and the 16 and 13 leave out what they should.
    train_ids = [evaluated[name].trainId for name in label_set.names]
    assert train_ids == sorted(train_ids)
    left_out = {
        19: set(),
        16: {"terrain", "truck", "train"},
        13: {"terrain", "truck", "train", "wall", "fence", "pole"},
    }
    assert evaluated.keys() - set(label_set.names) == left_out[num_classes]
    for train_id, scene_class in enumerate(label_set.classes):
        assert label_set.map_table(CITYSCAPES_TABLE)[scene_class.label_id] == train_id
        assert label_set.to_label_ids[train_id] == scene_class.label_id
    assert set(label_set.to_label_ids[label_set.num_classes :]) == {0}
    assert label_set.prediction_suffix == "_labelIds"


def test_names_of_all_ids_are_those_of_the_official_scripts():
    official = {label.id: label.name for label in official_labels() if label.id >= 0}
    names = dict(tables.GTA5.names)
    assert names.pop(34) == "license plate"  # -1 there; GTA5's palette has no negative index.
    assert names == official
    named = {value: official[value] for value in range(34) if value not in (0, 1, 2, 3)}
    assert CITYSCAPES_TABLE.names == {**named, 34: "license plate"}
    assert tables.BDD100K.names == {
        **{label.trainId: label.name for label in official_labels() if 0 <= label.trainId < 255},
        255: "unlabeled",
    }


# SYNTHIA value -> train id in the 19, 16 and 13 classes, as published.
SYNTHIA_TABLE = {
    1: (10, 9, 6), 2: (2, 2, 2), 3: (0, 0, 0), 4: (1, 1, 1), 5: (4, 4, 255), 6: (8, 8, 5),
    7: (5, 5, 255), 8: (13, 12, 9), 9: (7, 7, 4), 10: (11, 10, 7), 11: (18, 15, 12),
    12: (17, 14, 11), 15: (6, 6, 3), 16: (9, 255, 255), 17: (12, 11, 8), 18: (14, 255, 255),
    19: (15, 13, 10), 20: (16, 255, 255), 21: (3, 3, 255),
}  # fmt: skip


@pytest.mark.parametrize(("column", "num_classes"), [(0, 19), (1, 16), (2, 13)])
def test_tables_of_the_raw_datasets(column, num_classes):
    def train_ids(table: tables.RawTable) -> list[int]:
        to_train = load_label_set(f"cityscapes_{num_classes}").map_table(CITYSCAPES_TABLE)
        return to_train[table.to_stored].tolist()

    synthia = [SYNTHIA_TABLE.get(value, (255,) * 3)[column] for value in range(256)]
    assert train_ids(tables.SYNTHIA) == synthia
    synthia[22] = 0
    assert train_ids(tables.SYNTHIA_LANES_ARE_ROAD) == synthia
    cityscapes = [TABLE.get(value, (255,) * 3)[column] for value in range(256)]
    assert train_ids(tables.GTA5) == train_ids(tables.CITYSCAPES) == cityscapes
    bdd100k = [row[column] for row in TABLE.values()] + [255] * (256 - 19)
    assert train_ids(tables.BDD100K) == bdd100k
    assert tables.SYNTHIA.is_known.sum() == 23
    assert tables.GTA5.is_known.sum() == 35
    assert tables.CITYSCAPES.is_known.sum() == 36
    assert tables.BDD100K.is_known.sum() == 20
