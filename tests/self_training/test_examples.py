"""The examples of a round: which images, in which order, with which labels; the spatial prior."""

import dataclasses
import pickle

import numpy as np
import pytest
from PIL import Image

from alp_jax.data import pipeline
from alp_jax.data.labels import load_label_set
from alp_jax.data.samples import Notes, split_mixed
from alp_jax.errors import UserError
from alp_jax.self_training import examples, prior
from alp_jax.self_training.settings import SELF_TRAINING, RoundsSettings
from alp_jax.workdir.settings import build_settings
from tests import tiny

LABEL_SET = load_label_set("cityscapes_16")
NUM_TARGET = tiny.NUM_TRAIN - 2
SIZE = (tiny.HEIGHT, tiny.WIDTH)
# As images are, so that they can be told apart; a quarter of 12 source images.
PLAIN = RoundsSettings(
    num_rounds=2, steps_per_round=20, source_portion=0.25, source_portion_step=0.1,
    source_portion_most=0.5, crop_size=SIZE, scale_range=(1.0, 1.0), mirror_probability=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(data_dir):
    return build_settings(tiny.get_config(data_dir)).data


@pytest.fixture(scope="module")
def sources(data):
    return [pipeline.open_domain(data, domain, LABEL_SET) for domain in pipeline.DOMAINS]


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    for index in range(NUM_TARGET):
        label = np.full(SIZE, index, np.uint8)
        Image.fromarray(label).save(examples.label_path(folder, index))
    return folder


def create(data, sources, labels, number=0, seed=0, **fields):
    rounds = dataclasses.replace(PLAIN, **fields)
    plan = examples.RoundPlan(number, rounds, data, labels, (), (1, 2, 3))
    return examples.RoundExamples(plan, *sources, seed=seed)


def test_every_epoch_has_the_subset_and_the_whole_target_once(data, sources, labels):
    source, target = sources
    found = create(data, sources, labels)
    assert len(found) == 2 * 20 * data.batch_size
    assert len(found.subset) == 3
    length = 3 + NUM_TARGET
    orders = []
    for epoch in range(2):
        order = []
        for place in range(epoch * length, (epoch + 1) * length):
            example = found[place]
            index = int(example["id"])
            side = target if example["from_target"] else source
            np.testing.assert_array_equal(example["image"], side[index]["image"])
            expected = np.full(SIZE, index) if example["from_target"] else side[index]["label"]
            np.testing.assert_array_equal(example["label"], expected)
            order.append((bool(example["from_target"]), index))
        wanted = [(True, i) for i in range(NUM_TARGET)] + [(False, int(i)) for i in found.subset]
        assert sorted(order) == sorted(wanted)
        orders.append(order)
    assert orders[0] != orders[1]


def test_they_are_a_function_of_seed_and_place(data, sources, labels):
    fields = {"scale_range": (0.5, 1.5), "mirror_probability": 0.5}
    first = create(data, sources, labels, **fields)
    again = pickle.loads(pickle.dumps(create(data, sources, labels, **fields)))
    other = create(data, sources, labels, seed=1, **fields)
    for place in (7, 0, 30):
        for name in ("image", "label", "id"):
            np.testing.assert_array_equal(first[place][name], again[place][name])
    assert any((first[i]["image"] != other[i]["image"]).any() for i in range(5))


def test_each_round_draws_the_source_anew_and_more_of_it(data, sources, labels):
    rounds = [create(data, sources, labels, number=number) for number in range(3)]
    assert [len(found.subset) for found in rounds] == [3, 4, 5]
    assert not set(rounds[0].subset) <= set(rounds[1].subset) <= set(rounds[2].subset)
    assert all(len(set(found.subset)) == len(found.subset) for found in rounds)
    with pytest.raises(IndexError, match="before round 1"):
        rounds[1][rounds[1].first - 1]
    assert rounds[1].first == 20 * data.batch_size


def test_batches_of_a_round_go_beside_those_of_domains(data, sources, labels):
    found = create(data, sources, labels)
    domains = ("self_training", "source", "target")
    batches, alone = (
        pipeline.create_train_batches(
            data, seed=0, label_set=LABEL_SET, domains=read, others={SELF_TRAINING: found}
        )
        for read in (domains, ("source", "target"))
    )
    assert len(batches) == 40
    loaded = batches[3]
    mixed = loaded.batch["self_training"]
    assert mixed.from_target.dtype == bool
    for place in range(data.batch_size):
        example = found[3 * data.batch_size + place]
        np.testing.assert_array_equal(mixed.images[place], example["image"])
        np.testing.assert_array_equal(mixed.labels[place], example["label"])
        assert mixed.from_target[place] == example["from_target"]
    for domain in ("source", "target"):
        np.testing.assert_array_equal(loaded.batch[domain].images, alone[3].batch[domain].images)
    names = pipeline.name_examples(data, {"self_training": loaded.notes["self_training"]})
    assert all("tiny/" in text for text in names)


def test_notes_are_told_by_the_dataset_of_each_image():
    mixed = Notes(
        np.array([3, 4, 5]), np.array([-1, 4, -1]), np.ones(3), np.array([True, False, True])
    )
    plain = Notes(np.array([9]), np.array([-1]))
    found = split_mixed({"self_training": mixed, "target": plain})
    assert found["source"].ids.tolist() == [4]
    assert found["source"].skipped.tolist() == [4]
    assert found["target"].ids.tolist() == [3, 5, 9]
    assert split_mixed({"target": plain})["target"].ids.tolist() == [9]


def test_no_label_of_the_target_has_a_way_in(data, sources, labels):
    """A dataset with labels is refused; one that is read with them is, too."""
    source, target = sources
    assert "label" not in target[0]
    labelled = dataclasses.replace(data, target="tiny/target")
    with pytest.raises(UserError, match="must be read without"):
        pipeline.open_domain(labelled, "target", LABEL_SET)
    with pytest.raises(UserError, match="expected a target without"):
        create(data, (source, source), labels)

    class Poisoned:
        """Gives labels that nobody may look at."""

        label_set, title = None, "poisoned"

        def __len__(self):
            return len(target)

        def __getitem__(self, index):
            return target[index] | {"label": np.full(SIZE, 99, np.uint8)}

    clean, poisoned = (create(data, (source, side), labels) for side in (target, Poisoned()))
    for place in range(2 * NUM_TARGET):
        np.testing.assert_array_equal(clean[place]["label"], poisoned[place]["label"])


@pytest.mark.parametrize("fault", ["missing", "empty", "other size", "other mode"])
def test_a_label_that_cannot_be_used_is_one_sentence(tmp_path, fault):
    path = examples.label_path(tmp_path, 3)
    match fault:
        case "empty":
            path.write_bytes(b"")
        case "other size":
            Image.fromarray(np.zeros((5, 5), np.uint8)).save(path)
        case "other mode":
            Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
    with pytest.raises(UserError, match=r"pseudo-label .*000003.png cannot be used .*: expected"):
        examples.read_label(tmp_path, 3, SIZE)


def test_the_prior_is_the_share_of_each_class_at_a_position():
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 255], (6, 4, 5)).astype(np.uint8)
    labels[:, 0, 0] = 255
    found = prior.compute_prior(labels, num_classes=3, size=(4, 5))
    for row in range(4):
        for column in range(5):
            held = [value for value in labels[:, row, column] if value != 255]
            shares = [held.count(k) / len(held) if held else 1 / 3 for k in range(3)]
            np.testing.assert_allclose(found[row, column], shares, rtol=1e-6)
    smooth = prior.compute_prior(labels, num_classes=3, size=(4, 5), blur=3)
    np.testing.assert_allclose(smooth.sum(axis=-1), 1, rtol=1e-5)
    assert np.ptp(smooth[..., 0]) < np.ptp(found[..., 0])
