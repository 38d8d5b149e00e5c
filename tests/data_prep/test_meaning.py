"""What labels mean: shares of classes, values of another scheme, stored class frequencies.

python -m pytest tests/data_prep/test_meaning.py --hypothesis-profile=long     # 10,000 examples
"""

import dataclasses
import json
import pathlib
import shutil

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alp_jax.data import sources, statistics
from alp_jax.data.labels import CITYSCAPES_TABLE, IGNORE_LABEL, LabelTable, load_label_set
from alp_jax.data.samples import Notes
from alp_jax.domain_shift import label_maps
from alp_jax.domain_shift.settings import ShiftDataSettings
from alp_jax.errors import UserError
from alp_jax.run import guards
from data_prep.bdd100k import COMMAND as BDD100K
from data_prep.cityscapes import COMMAND as CITYSCAPES
from data_prep.common import tally
from data_prep.gta5 import COMMAND as GTA5
from data_prep.image_folder import COMMAND as IMAGE_FOLDER
from data_prep.raw.label_map import LabelMap
from data_prep.raw.layout import Layout
from data_prep.raw.meaning import IGNORED, Labels, round_shares
from data_prep.synthia_rand_cityscapes import COMMAND as SYNTHIA
from data_prep.toy_cities import cli as toy_cities
from data_prep.toy_cities.render import Domain, Settings, Split, render
from tests.data_prep import raw_files as raw
from tests.refusals import refusal

LABEL_SET = load_label_set("cityscapes_19")
TRAIN_IDS = np.array([*range(19), 255])


def prepare(root, masks, *arguments, name="mine", label_map=None):
    """Prepares images and masks {name: pixels} with the command; returns its exit status."""
    for key, mask in masks.items():
        raw.write(root / "frames", {f"{key}.png": raw.png(raw.rgb(0, *mask.shape[:2]))})
        raw.write(root / "masks", {f"{key}.png": raw.png(mask)})
    if isinstance(label_map, dict):
        (root / "map.json").write_text(json.dumps(label_map))
        arguments = (f"--label_map={root / 'map.json'}", *arguments)
    elif label_map:
        arguments = (f"--label_map={label_map}", *arguments)
    return IMAGE_FOLDER.main(
        [
            *("image_folder", "--workers=1", f"--name={name}", f"--images={root / 'frames'}"),
            *(f"--labels={root / 'masks'}", f"--data_dir={root / 'datasets'}", *arguments),
        ]
    )


def draw(choices, count=3):
    return {f"{seed}": raw.values(seed, np.array(choices)) for seed in range(count)}


COLOURS = np.array([[1, 2, 3], [4, 5, 6]])
OTHER_SCHEMES = {
    "train ids": (draw(TRAIN_IDS), None, "as Cityscapes train ids do"),
    "train ids without ignored": (draw(range(19)), None, "as Cityscapes train ids do"),
    "train ids of a motorway": (draw([0, 2, 8, 10, 13, 255]), None, "as Cityscapes train ids do"),
    "many classes of one's own": (draw(range(7)), None, "values 0, 1, 2, 3, 4, 5, 6, as"),
    "few label ids": (draw([0, 7, 8, 11]), None, "hold only the values 0, 7, 8, 11, as"),
    "mask 0/255": (draw([0, 255]), None, "0, 255 are no class in Cityscapes label ids"),
    "mask 0/1": (draw([0, 1]), None, "0, 1 are no class in Cityscapes label ids"),
    "classes 0/1/2": (draw([0, 1, 2]), None, "0, 1, 2 are no class in Cityscapes label ids"),
    "nothing but 255": (draw([255]), None, "255 are no class in Cityscapes label ids"),
    "void said to be label ids": (draw([0, 3]), "cityscapes_label_ids", "is ignored, as 0, 3"),
    "other colours": (
        {"a": COLOURS[raw.values(0, np.arange(2))]},
        {"#804080": "road", "default": "ignore"},
        "they hold nothing that the label map gives a class (#804080, default)",
    ),
    "other values": (
        draw([1, 2]), {"7": "road", "8": "car", "default": "ignore"}, "is ignored, as they hold"
    ),
    "all of them ignored": (draw([1, 2]), {"1": "ignore", "2": "ignore", "3": "road"}, "nothing"),
}  # fmt: skip


@pytest.mark.parametrize("scheme", OTHER_SCHEMES)
def test_labels_of_another_scheme_are_refused(tmp_path, capsys, scheme):
    masks, label_map, words = OTHER_SCHEMES[scheme]
    assert prepare(tmp_path, masks, "--check", label_map=label_map) == 1
    output = capsys.readouterr().out
    assert words in output
    assert "Nothing is wrong" not in output
    assert "everything can be prepared" not in output
    assert prepare(tmp_path, masks, label_map=label_map) == 2
    captured = capsys.readouterr()
    (error,) = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert words in error
    assert "--label_map" in error or "label map" in error
    assert not (tmp_path / "datasets").exists(), "an empty folder is left"


@pytest.mark.parametrize(
    ("scheme", "label_map", "expected"),
    [
        ("train ids", "cityscapes_train_ids", lambda mask: mask),
        ("train ids of a motorway", "cityscapes_train_ids", lambda mask: mask),
        ("few label ids", "cityscapes_label_ids", raw.train_ids),
        ("mask 0/255", {"0": "road", "255": "car"}, lambda mask: np.where(mask == 0, 0, 13)),
        ("classes 0/1/2", {"0": "sky", "1": "car", "2": "ignore"}, np.array([10, 13, 255]).take),
    ],
)
def test_what_is_said_about_the_values_is_taken(tmp_path, capsys, scheme, label_map, expected):
    masks = OTHER_SCHEMES[scheme][0]
    assert prepare(tmp_path, masks, label_map=label_map) == 0
    assert "Warning" not in capsys.readouterr().out
    examples = raw.read(tmp_path / "datasets", "image_folder/mine", "train")
    for name, mask in masks.items():
        np.testing.assert_array_equal(examples[name]["label"], expected(mask))
    assert prepare(tmp_path, masks, "--check", label_map=label_map) == 0
    assert "Nothing is wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("masks", "label_map", "words"),
    [
        (draw([7, 26]), None, "The labels hold only 7, 26, which are read as Cityscapes label ids"),
        (draw([26]), None, "The labels hold only 26"),
        (draw([4, 5, 6]), None, "static, dynamic, ground are the only classes in train, none of"),
        (draw([1, 2]), {"1": "road", "2": "ignore"}, "road is the only class in train"),
        (draw([1]), {"1": "road", "2": "car"}, "road is the only class in train"),
        (draw([1, 9]), {"1": "road", "7": "car", "default": "sky"}, None),
        (draw([9]), {"1": "road", "default": "sky"}, "sky is the only class in train"),
        (
            draw([1, *[3] * 20]), {"1": "road", "2": "car", "default": "ignore"},
            "95.2 % of the pixels in train are ignored",
        ),
        (
            {**draw([3]), "3": raw.values(3, np.array([1, 2]))},
            {"1": "road", "2": "car", "default": "ignore"},
            "3 of 4 labels in train hold nothing but ignored pixels",
        ),
    ],
)  # fmt: skip
def test_doubtful_labels_are_prepared_with_a_warning(tmp_path, capsys, masks, label_map, words):
    assert prepare(tmp_path, masks, "--check", label_map=label_map) == 0
    checked = capsys.readouterr().out
    assert prepare(tmp_path, masks, label_map=label_map) == 0
    prepared = capsys.readouterr().out
    if words is None:
        assert "Warning" not in checked + prepared
        return
    assert ("Nothing is wrong" in checked) is False
    for output in (checked, prepared):
        (warning, *_) = [line for line in output.splitlines() if line.startswith("Warning: ")]
        assert words in warning


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ([5, 8, 10, 13, 255], "5, 8, 10, 13, 255, and are read as Cityscapes label ids (5 is dyn"),
        ([8, 10, 13], "may as well be train ids (8 is vegetation, 10 is sky, 13 is car, ...)"),
        (range(4, 19), "may as well be train ids (4 is fence, 5 is pole, 6 is traffic light"),
        ([7, 8, 11, 19], "no pixel is vegetation (21), sky (23) or car (26)"),
        ([4, 9, 15, 20, 255], "no pixel is vegetation (21), sky (23) or car (26)"),
    ],
)
def test_values_that_fit_another_scheme_as_well_are_told(tmp_path, capsys, choices, words):
    assert prepare(tmp_path, draw(choices)) == 0
    (warning,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("Warning: ")]
    assert words in warning
    for remedy in ("--label_map=cityscapes_train_ids", "--label_map=cityscapes_label_ids"):
        assert remedy in warning
    said = prepare(tmp_path, draw(choices), name="said", label_map="cityscapes_label_ids")
    assert said == 0
    assert "Warning" not in capsys.readouterr().out


def test_pascal_voc_or_train_ids_plus_one_are_doubted_or_refused(tmp_path, capsys):
    for name, choices in (("voc", [*range(21), 255]), ("plus one", [*range(1, 20), 255])):
        assert prepare(tmp_path / name, draw(choices)) == 0
        assert "Warning: The labels hold only the values" in capsys.readouterr().out


def test_train_ids_among_label_ids_are_told(tmp_path, capsys):
    masks = {**draw([0, 1, 7, 8, 11, 21, 23, 26], 4), "b": raw.values(9, np.array([0, 8, 10, 255]))}
    assert prepare(tmp_path, masks, "--check") == 0
    checked = capsys.readouterr().out
    assert prepare(tmp_path, masks) == 0
    for output in (checked, capsys.readouterr().out):
        assert "Warning: 1 of 5 labels in train (the first is b) look like Cityscapes" in output
    assert prepare(tmp_path, masks, name="said", label_map="cityscapes_label_ids") == 0
    assert "Warning" not in capsys.readouterr().out


# The published datasets.


def streets(count=10):
    """Label maps of streets, in Cityscapes label ids."""
    settings = Settings(height=24, width=48)
    return [render(settings, Domain.TARGET, Split.TRAIN, index)[1] for index in range(count)]


TO_TRAIN_IDS = raw.train_ids(np.arange(256))
ID_TO_SYNTHIA = {label_id: value for value, label_id in enumerate(raw.SYNTHIA_TO_IDS) if label_id}


def write_published(root, name, labels):
    """Writes labels in the format of a published dataset."""
    files = {}
    for number, ids in enumerate(labels):
        image = raw.png(raw.rgb(number, *ids.shape))
        city = f"aachen/{raw.cityscapes_name(number)}"
        if name == "cityscapes":
            files[f"leftImg8bit/train/{city}_leftImg8bit.png"] = image
            files[f"gtFine/train/{city}_gtFine_labelIds.png"] = raw.png(ids)
        elif name == "gta5":
            files[f"images/{number:05d}.png"] = image
            files[f"labels/{number:05d}.png"] = raw.palette_png(ids)
        elif name == "synthia":
            classes = np.vectorize(lambda value: ID_TO_SYNTHIA.get(value, 0))(ids)
            files[f"RGB/{number:07d}.png"] = image
            files[f"GT/LABELS/{number:07d}.png"] = raw.synthia_png(classes)
        else:
            jpeg = raw.jpeg(raw.rgb(number, *ids.shape))
            files[f"images/10k/train/{number}.jpg"] = jpeg
            files[f"labels/sem_seg/masks/train/{number}.png"] = raw.png(TO_TRAIN_IDS[ids])
    raw.write(root / "raw", files)


PUBLISHED = {"cityscapes": CITYSCAPES, "gta5": GTA5, "synthia": SYNTHIA, "bdd100k": BDD100K}


def run_published(root, name, *arguments):
    places = (f"--raw_dir={root / 'raw'}", f"--data_dir={root / 'datasets'}")
    return PUBLISHED[name].main([name, "--workers=1", *places, *arguments])


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("count", [1, 10])
def test_published_labels_raise_no_alarm(tmp_path, capsys, name, count):
    write_published(tmp_path, name, streets(count))
    assert run_published(tmp_path, name, "--check") == 0
    output = capsys.readouterr().out
    assert "Nothing is wrong: everything can be prepared." in output
    assert "Warning" not in output
    assert "road" in output
    assert run_published(tmp_path, name) == 0
    assert "Warning" not in capsys.readouterr().out


def test_every_single_street_raises_no_alarm():
    layout = Layout(name="x", expected="x", read_label=lambda data: data, assumes_label_ids=True)
    for ids in streets(60):
        labels = Labels(layout, {"train": tally.count_values(ids)[None]})
        assert labels.find_fault() == ""
        assert labels.list_doubts() == []


@pytest.mark.parametrize("name", ["cityscapes", "gta5"])
def test_train_ids_under_the_published_names_are_refused(tmp_path, capsys, name):
    labels = [TO_TRAIN_IDS[ids] for ids in streets(3)]
    if name == "gta5":  # Its own labels have no 255.
        labels = [np.where(ids == 255, 0, ids) for ids in labels]
    write_published(tmp_path, name, labels)
    assert run_published(tmp_path, name, "--check") == 1
    assert "Nothing is wrong" not in capsys.readouterr().out
    assert run_published(tmp_path, name) == 2
    assert "data_prep.image_folder --label_map=cityscapes_train_ids" in capsys.readouterr().err


# The shares.

VALUES = st.integers(0, 255)
LABELS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=VALUES)
NAMES = st.sampled_from(["road", "a b", "sky", "Car", "ignored-ish", "12 x"])


@st.composite
def tables(draw):
    names = draw(st.none() | st.dictionaries(VALUES, NAMES, min_size=1, max_size=256))
    if names is None:
        return None
    ignored = draw(st.sets(VALUES.filter(lambda value: value not in names)))
    return LabelTable(names, frozenset(ignored))


@given(st.lists(LABELS, min_size=1, max_size=4), tables())
@example([np.zeros((1, 1), np.uint8)], None)
def test_shares_are_those_of_a_recount_and_sum_to_100(labels, table):
    counted = np.stack([tally.count_values(label) for label in labels])
    for row, label in zip(counted, labels, strict=True):
        np.testing.assert_array_equal(row, np.bincount(label.ravel(), minlength=256))
    found = Labels(Layout(name="x", expected="x", table=table), {"train": counted})
    names = (table or CITYSCAPES_TABLE).names
    pixels = np.concatenate([label.ravel() for label in labels])
    recount = dict.fromkeys([*names.values(), IGNORED], 0)
    for value in pixels.tolist():
        recount[names.get(value, IGNORED)] += 1
    assert found.count_classes("train") == recount
    _, *lines = found.list_shares()
    shown = {}
    for line in lines:
        if not line.startswith("never there: "):
            name, share = line.rsplit(maxsplit=1)
            shown[name.strip()] = round(100 * float(share))
            assert abs(float(share) - 100 * recount[name.strip()] / pixels.size) < 0.011, line
    assert sum(shown.values()) == 10_000
    assert {name for name, number in recount.items() if number} <= shown.keys()


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=40))
@example([0])
@example([1, 1, 1])
def test_rounded_shares_sum_to_100_percent(counts):
    shares = round_shares(counts)
    assert sum(shares) == (10_000 if sum(counts) else 0)
    for number, share in zip(counts, shares, strict=True):
        exact = 10_000 * number / max(sum(counts), 1)
        assert abs(share - exact) <= 1


@given(LABELS, st.sets(VALUES, max_size=12), st.booleans())
def test_values_that_are_said_are_no_longer_guessed(label, mapped, has_default):
    """A label map leaves only doubt about labels without any class."""
    names = {number: f"class {number}" for number in range(len(mapped))}
    label_map = LabelMap(
        dict(zip(sorted(mapped), names, strict=True)),
        default=IGNORE_LABEL if has_default else None,
        table=LabelTable(names or {0: "none"}),
    )
    stored = np.full_like(label, IGNORE_LABEL)
    for value, number in label_map.stored.items():
        stored[label == value] = number
    layout = Layout(name="x", expected="x", table=label_map.table, meanings={"1": "a"})
    fault = Labels(layout, {"train": tally.count_values(stored)[None]}).find_fault()
    assert bool(fault) == (not np.isin(label, list(mapped)).any())


def test_many_pixels_are_counted_exactly(monkeypatch):
    monkeypatch.setattr(tally, "_EXACT_IN_FLOAT32", 10)
    label = raw.values(0, np.arange(7)).astype(np.uint8)
    np.testing.assert_array_equal(tally.count_values(label), np.bincount(label.ravel(), None, 256))


def test_each_split_has_a_column(tmp_path, capsys):
    files = {}
    for split in ("train", "val"):
        files |= raw.cityscapes_files(split, range(2), "leftImg8bit")
        files |= raw.cityscapes_files(split, range(2), "gtFine")
    raw.write(tmp_path / "raw", files)
    assert run_published(tmp_path, "cityscapes") == 0
    output = capsys.readouterr().out
    (heads,) = [line for line in output.splitlines() if "pixels in percent" in line]
    assert heads.split()[-2:] == ["train", "validation"]
    (sky,) = [line for line in output.splitlines() if line.split()[:1] == ["sky"]]
    assert [float(share) for share in sky.split()[1:]] == pytest.approx([100 / 36] * 2, abs=0.02)


# Stored class frequencies.


def recount(data_dir, name, split):
    examples = raw.read(data_dir, name, split).values()
    return np.stack([np.bincount(e["label"].ravel(), None, 256)[:19] for e in examples])


@pytest.fixture
def prepared(tmp_path, capsys):
    """image_folder/mine with five labels."""
    assert prepare(tmp_path, draw([*raw.ALL_IDS, 255], 5)) == 0
    capsys.readouterr()
    return tmp_path / "datasets"


def test_class_frequencies_are_stored(prepared):
    read = statistics.read_class_pixels
    whole = read(str(prepared), "image_folder/mine", "train", LABEL_SET)
    np.testing.assert_array_equal(whole, recount(prepared, "image_folder/mine", "train"))
    for part, rows in (
        ("train[1:3]", [1, 2]), ("train[-1:]", [4]), ("train[:40%]", [0, 1]),
        ("train[:1]+train[3:4]", [0, 3]),
    ):  # fmt: skip
        found = read(str(prepared), "image_folder/mine", part, LABEL_SET)
        np.testing.assert_array_equal(found, whole[rows])


def test_class_frequencies_are_those_of_the_stored_label(tmp_path):
    assert prepare(tmp_path, draw([*raw.ALL_IDS, 255], 2), "--size=10,14") == 0
    name = "image_folder/mine_10x14"
    found = statistics.read_class_pixels(str(tmp_path / "datasets"), name, "train", LABEL_SET)
    np.testing.assert_array_equal(found, recount(tmp_path / "datasets", name, "train"))


def test_the_built_in_cities_have_them_too(tmp_path):
    sizes = ("--num_train=3", "--num_eval=2", "--height=16", "--width=32", "--workers=1")
    assert toy_cities.main(["toy_cities", f"--data_dir={tmp_path}", *sizes]) == 0
    for folder in (tmp_path / "toy_cities").glob("*/1.0.0"):
        assert (folder / statistics.FILE_NAME).exists() == ("unlabelled" not in str(folder))
    (name,) = [p.parent.name for p in tmp_path.glob("toy_cities/source*/1.0.0")]
    for split in ("train", "test"):
        found = statistics.read_class_pixels(str(tmp_path), f"toy_cities/{name}", split, LABEL_SET)
        np.testing.assert_array_equal(found, recount(tmp_path, f"toy_cities/{name}", split))


def version_of(data_dir: pathlib.Path) -> pathlib.Path:
    return data_dir / "image_folder/mine/1.0.0"


@pytest.mark.parametrize("damage", ["cut", "text", "gone", "others", "no split"])
def test_class_frequencies_that_cannot_be_read(prepared, damage):
    path = version_of(prepared) / statistics.FILE_NAME
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "others":
        statistics.write(path.parent, {"train": np.ones((4, 256), np.int64)})
    elif damage == "no split":
        statistics.write(path.parent, {"validation": np.ones((5, 256), np.int64)})
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"nonsense")
    error = refusal(
        lambda: statistics.read_class_pixels(str(prepared), "image_folder/mine", "train", LABEL_SET)
    )
    words = {
        "gone": "has no class frequencies", "no split": "has no class frequencies",
        "others": "are of 4 records in train, which has 5",
    }.get(damage, "are damaged")  # fmt: skip
    assert words in error
    assert "--replace" in error


# What reads labels.


def void_out(data_dir: pathlib.Path, *, stored: bool) -> None:
    """Makes the class frequencies say that all is ignored, or takes them away."""
    folder = version_of(data_dir)
    (folder / statistics.FILE_NAME).unlink()
    if stored:
        pixels = np.zeros((5, 256), np.int64)
        pixels[:, 4], pixels[:, 255] = 30, 70
        statistics.write(folder, {"train": pixels})


@pytest.mark.parametrize("stored", [True, False])
def test_a_source_without_a_labelled_pixel_does_not_start(prepared, stored):
    void_out(prepared, stored=stored)
    error = refusal(
        lambda: sources.open_source(
            str(prepared), "image_folder/mine", "train", label_set=LABEL_SET
        )
    )
    if not stored:  # Then training itself notices.
        assert error is None
        return
    assert "No pixel in the labels of image_folder/mine:train is of a class" in error
    assert "70.0 % of its pixels are ignored, 30.0 % of its pixels are static" in error


def test_an_evaluation_without_a_labelled_pixel_says_so(prepared, caplog):
    void_out(prepared, stored=True)
    with caplog.at_level("INFO", logger="alp_jax"):
        sources.announce.cache_clear()
        sources.open_source(
            str(prepared), "image_folder/mine", "train", label_set=LABEL_SET, labels_required=False
        )
    assert "image_folder/mine:train give no scores, as no pixel is of a class" in caplog.text


def note(*labelled):
    ids = np.zeros(len(labelled), np.int32)
    return {"source": Notes(ids, ids - 1, np.array(labelled)), "target": Notes(ids, ids - 1)}


def guard_after(*batches, starts_at_0=True):
    guard = guards.LabelGuard(starts_at_0=starts_at_0)
    for batch in batches:
        guard.add(batch)
    return guard


def test_batches_without_a_labelled_pixel_stop_a_run():
    many = [note(0, 0)] * guards.MOST_UNLABELLED
    error = refusal(lambda: guard_after(*many).check(is_last=False))
    assert "None of the last 100 batches has a pixel with a class" in error
    assert refusal(lambda: guard_after(note(1, 0), *many).check(is_last=False))
    assert refusal(lambda: guard_after(*many[:6]).check(is_last=True)), "a short run"
    for batches, arguments, is_last in (
        (many[:-1], {}, False),
        ([*many[:-1], note(0, 1)], {}, False),
        ([*many, note(0, 1)], {}, True),
        ([note(3, 0), *many[:6]], {}, True),
        (many[:6], {"starts_at_0": False}, True),  # It had labelled batches before.
        ([{"source": Notes(np.zeros(2), np.zeros(2))}] * 300, {}, True),  # No labels are read.
        ([], {}, True),
    ):
        assert refusal(lambda: guard_after(*batches, **arguments).check(is_last=is_last)) is None  # noqa: B023


@pytest.mark.parametrize("domain", ["source", "target"])
def test_label_maps_of_one_value_give_no_advice(tmp_path, domain):
    """Void ones are stored without class frequencies, as earlier versions did."""
    masks = {"source": draw([7, 8], 4), "target": draw([7, 8], 4)}
    masks[domain] = draw([7], 4)
    for name, drawn in masks.items():
        assert prepare(tmp_path / name, drawn, name=name, label_map="cityscapes_label_ids") == 0
    shutil.copytree(tmp_path / "target/datasets", tmp_path / "source/datasets", dirs_exist_ok=True)
    data = ShiftDataSettings(
        data_dir=str(tmp_path / "source/datasets"),
        source="image_folder/source",
        target="image_folder/target",
        target_validation="",
    )
    open_domains = {"seed": 0, "num_validation": 2, "label_set": LABEL_SET}
    domains = label_maps.open_domains(data, **open_domains)
    error = refusal(lambda: label_maps.read_validation_maps(domains, (16, 16)))
    assert f"image_folder/{domain}:train that validate hold only road" in error
    good = dataclasses.replace(data, target="image_folder/source", source="image_folder/target")
    swapped = label_maps.open_domains(good, **open_domains)
    with pytest.raises(UserError, match="hold only road"):
        label_maps.read_validation_maps(swapped, (16, 16))
