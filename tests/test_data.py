import dataclasses
import itertools
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from alp_jax.data import pipeline, sources
from alp_jax.data.labels import CITYSCAPES_TABLE, load_label_set
from alp_jax.errors import UserError
from alp_jax.workdir.settings import build_settings
from tests import tiny

LABEL_SET = load_label_set("cityscapes_16")
BATCH_SIZE = 4


@pytest.fixture
def settings(data_dir):
    found = build_settings(tiny.get_config(data_dir)).data
    return dataclasses.replace(found, batch_size=BATCH_SIZE)


def create(settings, seed=0, domains=pipeline.DOMAINS):
    return pipeline.create_train_batches(settings, seed=seed, label_set=LABEL_SET, domains=domains)


def batches_equal(a, b) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        jax.tree.leaves(jax.tree.map(np.array_equal, a, b))
    )


def image_ids(images) -> list[int]:
    """Which of the tiny images these are, mirrored or not."""
    known = {}
    for index in (*range(tiny.NUM_TRAIN), *range(100, 100 + tiny.NUM_TRAIN - 2)):
        image = tiny.make_example(index)["image"]
        known[image.tobytes()] = known[image[:, ::-1].tobytes()] = index
    return [known[image.tobytes()] for image in images]


def test_a_batch_is_a_function_of_seed_and_step(settings):
    batches, again, other = create(settings), create(settings), create(settings, seed=1)
    for step in (0, 7, 1000):
        assert batches_equal(batches[step], again[step])
        assert not batches_equal(batches[step], other[step])
    assert batches[3].batch["source"].images.shape == (BATCH_SIZE, tiny.HEIGHT, tiny.WIDTH, 3)
    pixels = jax.tree.leaves(batches[3].batch)
    assert {array.dtype for array in pixels} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_iterating_from_a_step_gives_the_batches_of_those_steps(settings, num_workers):
    batches = create(settings)
    iterator = pipeline.iterate(batches, 5, num_workers=num_workers, prefetch_batches=2)
    for step in range(5, 10):
        batch = next(iterator)
        assert batches_equal(batch, batches[step])
        # Shared memory of a reader that JAX still holds when Python ends is reported as leaked.
        assert all(type(array) is np.ndarray for array in jax.tree.leaves(batch))
    iterator.close()


def test_every_epoch_holds_each_image_once_in_another_order(settings):
    batches = create(settings)
    steps_per_epoch = tiny.NUM_TRAIN // BATCH_SIZE
    epochs = [
        image_ids(
            image
            for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch)
            for image in batches[step].batch["source"].images
        )
        for epoch in range(3)
    ]
    for epoch in epochs:
        assert sorted(epoch) == list(range(tiny.NUM_TRAIN))
    assert epochs[0] != epochs[1] != epochs[2]


def test_source_and_target_are_shuffled_independently(settings):
    ids = [
        (image_ids(batch["source"].images), image_ids(batch["target"].images))
        for batch in (create(settings)[step].batch for step in range(6))
    ]
    source = [i for ids_of_batch, _ in ids for i in ids_of_batch]
    target = [i - 100 for _, ids_of_batch in ids for i in ids_of_batch]
    assert len({t - s for s, t in zip(source, target, strict=True)}) > 5


def test_image_and_label_are_flipped_together_and_half_of_the_time(settings):
    batches = create(settings)
    flipped = 0
    for step in range(30):
        images, labels, *_ = batches[step].batch["source"]
        for index, image, label in zip(image_ids(images), images, labels, strict=True):
            example = tiny.make_example(index)
            expected = LABEL_SET.map_table(CITYSCAPES_TABLE)[example["label"][..., 0]]
            mirrored = not np.array_equal(image, example["image"])
            np.testing.assert_array_equal(label, expected[:, ::-1] if mirrored else expected)
            flipped += mirrored
    assert 40 <= flipped <= 80  # Of 120, expected 60; 20 are 3.7 standard deviations.
    images = create(dataclasses.replace(settings, flip_probability=0.0))[0].batch["source"].images
    for index, image in zip(image_ids(images), images, strict=True):
        np.testing.assert_array_equal(image, tiny.make_example(index)["image"])


def test_a_domain_that_is_not_asked_for_is_not_read(settings):
    settings = dataclasses.replace(settings, target="nowhere")
    assert list(create(settings, domains=["source"])[0].batch) == ["source"]


@pytest.mark.parametrize("filter_name", ["bicubic", "bilinear"])
def test_resize_is_pillows_for_images_and_nearest_for_labels(settings, filter_name):
    whole = dataclasses.replace(settings, flip_probability=0.0)
    resized = dataclasses.replace(whole, source_size=(16, 20), image_resize=filter_name)
    images, labels, *_ = create(resized, domains=["source"])[0].batch["source"]
    assert images.shape == (BATCH_SIZE, 16, 20, 3)
    ids = image_ids(create(whole, domains=["source"])[0].batch["source"].images)
    example = tiny.make_example(ids[0])
    image = Image.fromarray(example["image"]).resize((20, 16), getattr(Image, filter_name.upper()))
    np.testing.assert_array_equal(images[0], image)
    label = LABEL_SET.map_table(CITYSCAPES_TABLE)[example["label"][..., 0]]
    # Nearest: the centre of output pixel i lies in input pixel floor((i + 0.5) * n_in / n_out).
    rows = ((np.arange(16) + 0.5) * tiny.HEIGHT / 16).astype(int)
    columns = ((np.arange(20) + 0.5) * tiny.WIDTH / 20).astype(int)
    np.testing.assert_array_equal(labels[0], label[np.ix_(rows, columns)])


def test_evaluation_counts_every_image_once_in_fixed_order(settings):
    def read_names() -> list[str]:
        batches, num_images = pipeline.create_eval_batches(
            settings, dataset="tiny/target", split="validation", batch_size=3, label_set=LABEL_SET
        )
        assert num_images == tiny.NUM_EVAL
        assert len(batches) == 3
        names = []
        for index in range(3):
            batch = batches[index]
            assert batch["images"].shape == (3, tiny.HEIGHT, tiny.WIDTH, 3)
            assert np.all(batch["labels"][~batch["mask"]] == 255)
            names += [n for n, real in zip(batch["names"], batch["mask"], strict=True) if real]
        return names

    names = read_names()
    assert sorted(names) == [f"{index:05d}" for index in range(250, 250 + tiny.NUM_EVAL)]
    assert read_names() == names


def test_target_must_come_without_labels(settings):
    with pytest.raises(UserError, match="tiny/source:train holds labels"):
        create(dataclasses.replace(settings, target="tiny/source"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "nowhere"}, r"No prepared dataset at .*nowhere.*prepare it"),
        ({"source_split": "trian"}, "no split 'trian': expected one of test, train, validation"),
        (
            {"source": "tiny/target_unlabelled"},
            r"\(config.data.source\) has no labels, only the features image, name",
        ),
    ],
)
def test_a_wrong_dataset_is_one_sentence(settings, fields, message):
    with pytest.raises(UserError, match=message):
        create(dataclasses.replace(settings, **fields))


def corrupt_copy(data_dir: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    shutil.copytree(data_dir / "tiny", folder / "tiny")
    return folder / "tiny" / "source" / "1.0.0"


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_corrupt_record_is_named(settings, data_dir, tmp_path, num_workers):
    version = corrupt_copy(data_dir, tmp_path)
    (records,) = version.glob("*train*array_record*")
    data = bytearray(records.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 200] = bytes(200)
    records.write_bytes(data)
    settings = dataclasses.replace(settings, data_dir=str(tmp_path))
    iterator = pipeline.iterate(create(settings), 0, num_workers=num_workers, prefetch_batches=1)
    with pytest.raises(
        UserError,
        match=r"Record \d+ of tiny/source:train \(number \d+ in .*array_record.*\) is corrupt",
    ):
        list(itertools.islice(iterator, 4))


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("text", ["{", "", "[1]"])
def test_a_damaged_description_is_named(settings, data_dir, tmp_path, file, text):
    version = corrupt_copy(data_dir, tmp_path)
    (version / file).write_text(text)
    settings = dataclasses.replace(settings, data_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"description of dataset .* is corrupt"):
        create(settings)


def test_missing_records_are_named(settings, data_dir, tmp_path):
    version = corrupt_copy(data_dir, tmp_path)
    for records in version.glob("*train*array_record*"):
        records.unlink()
    settings = dataclasses.replace(settings, data_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"(Dataset|Record 0 of) tiny/source:train"):
        create(settings)[0]


def test_a_label_that_is_no_cityscapes_id_is_named():
    record = {"name": b"frame", "image": np.zeros((2, 2, 3)), "label": np.full((2, 2, 1), 77)}
    source = sources.SegmentationSource([record], "mine:train", LABEL_SET)
    with pytest.raises(UserError, match="Label frame of mine:train holds the value 77"):
        source[0]


def test_labels_of_different_sizes_are_refused(settings, monkeypatch):
    records = [
        {"name": b"a", "image": np.zeros((4, 4, 3), np.uint8), "label": np.zeros((4, size, 1), int)}
        for size in (4, 6)
    ]
    source = sources.SegmentationSource(records, "mine:test", LABEL_SET)
    monkeypatch.setattr(sources, "open_source", lambda *_, **__: source)
    batches, _ = pipeline.create_eval_batches(
        settings, dataset="mine", split="test", batch_size=2, label_set=LABEL_SET
    )
    with pytest.raises(UserError, match=r"different sizes \(4x4, 4x6\)"):
        batches[0]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_corrupt_record_may_be_replaced_by_the_next_and_is_told(
    settings, data_dir, tmp_path, num_workers
):
    version = corrupt_copy(data_dir, tmp_path)
    (records,) = version.glob("*train*array_record*")
    data = bytearray(records.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 200] = bytes(200)
    records.write_bytes(data)
    whole = create(settings)
    settings = dataclasses.replace(settings, data_dir=str(tmp_path), max_bad_records=1)
    iterator = pipeline.iterate(create(settings), 0, num_workers=num_workers, prefetch_batches=1)
    replaced = set()
    for step in range(6):
        (batch, notes), (expected, whole_notes) = next(iterator), whole[step]
        is_replaced = notes["source"].skipped >= 0
        replaced |= set(notes["source"].skipped[is_replaced].tolist())
        ids = whole_notes["source"].ids
        np.testing.assert_array_equal(
            notes["source"].ids, np.where(is_replaced, (ids + 1) % 12, ids)
        )
        for name in ("images", "labels"):
            found, same = (getattr(b["source"], name)[~is_replaced] for b in (batch, expected))
            np.testing.assert_array_equal(found, same)
        np.testing.assert_array_equal(batch["target"].images, expected["target"].images)
    assert len(replaced) == 1


def test_example_names_are_those_of_the_batch(settings):
    notes = create(settings)[3].notes
    source, target = pipeline.name_examples(settings, notes)
    for text, domain in ((source, "source"), (target, "target")):
        numbers = [int(record) for record in re.findall(r"\(record (\d+)\)", text)]
        assert numbers == notes[domain].ids.tolist()
    assert re.search(r"source images 000\d\d \(record", source)
    assert re.search(r"target images 001\d\d \(record .* of tiny/target_unlabelled:train", target)


def test_pixels_and_facts_about_them_are_kept_apart(settings):
    """The step gets all that is in a sample, whatever its shape, and nothing of the notes."""
    batch, notes = create(settings)[0]
    assert batch["target"].labels is None
    assert all(sample.weights is None for sample in batch.values())
    assert {array.shape for array in jax.tree.leaves(notes)} == {(BATCH_SIZE,)}
