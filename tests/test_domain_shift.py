"""The motivational experiment (Figure 1 of Cicek et al., ACCV 2020)."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from alp_jax.data.labels import IGNORE_LABEL, load_label_set
from alp_jax.domain_shift import experiment, label_maps, report, settings
from alp_jax.domain_shift.advice import PatchSummary, advise
from alp_jax.errors import UserError
from alp_jax.models.domain_classifier import create_domain_classifier
from configs import domain_shift
from tests import tiny
from tests.commands import call, read_error

LABEL_SET = load_label_set("cityscapes_16")
SIZE = (tiny.HEIGHT, tiny.WIDTH)
NUM_VALIDATION = 5


@pytest.fixture
def config(data_dir):
    config = domain_shift.get_config("toy_cities")
    with config.unlocked():
        config.num_runs = 2
        config.patch_sizes = (8, 16)
        config.num_steps = 3
        config.eval_every_steps = 2
        config.num_validation = NUM_VALIDATION
        config.eval_batch_size = 4
        config.widths = (4, 4, 4, 4)
        config.data.data_dir = str(data_dir)
        config.data.source = "tiny/source"
        config.data.target = config.data.target_validation = "tiny/target"
        config.data.size = SIZE
        config.data.batch_size = 2
    return config


def open_domains(config):
    shift = settings.build_settings(config)
    return label_maps.open_domains(
        shift.data,
        seed=shift.seed,
        num_validation=shift.num_validation,
        label_set=LABEL_SET,
    )


# The classifier.


@pytest.mark.parametrize("num_classes", [16, 19])
def test_the_classifier_is_resnet18(num_classes):
    params, _ = jax.eval_shape(create_domain_classifier(num_classes).init, jax.random.key(0))
    torchvision = 11_689_512  # With 3 channels of input and 1000 classes of output.
    expected = torchvision - 49 * 64 * 3 + 49 * 64 * num_classes - 513 * 1000 + 513
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def torch_resnet18(params, stats, maps, *, train: bool) -> torch.Tensor:
    """ResNet-18 on one-hot [B, C, H, W], written down from the paper with PyTorch's functions."""

    def tensor(array) -> torch.Tensor:
        return torch.from_numpy(np.array(array))

    def conv_bn(features, conv, norm, *path, stride, padding):
        weights, statistics = params, stats
        for name in path:
            weights, statistics = weights[name], statistics[name]
        kernel = tensor(weights[conv]["kernel"]).permute(3, 2, 0, 1)
        features = F.conv2d(features, kernel, stride=stride, padding=padding)
        return F.batch_norm(
            features,
            tensor(statistics[norm]["mean"]),
            tensor(statistics[norm]["var"]),
            tensor(weights[norm]["scale"]),
            tensor(weights[norm]["bias"]),
            training=train,
        )

    features = F.relu(conv_bn(maps, "conv1", "bn1", stride=2, padding=3))
    features = F.max_pool2d(features, 3, 2, 1)
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}_{block}", 2 if stage > 1 and block == 0 else 1
            shortcut = features
            features = F.relu(conv_bn(features, "conv1", "bn1", name, stride=stride, padding=1))
            features = conv_bn(features, "conv2", "bn2", name, stride=1, padding=1)
            if stride == 2:
                names = ("downsample_conv", "downsample_bn", name)
                shortcut = conv_bn(shortcut, *names, stride=2, padding=0)
            features = F.relu(features + shortcut)
    pooled = features.mean((2, 3))
    return (pooled @ tensor(params["head_kernel"]) + tensor(params["head_bias"]))[:, 0]


@pytest.mark.parametrize("train", [False, True])
def test_the_classifier_agrees_with_pytorch(train):
    classifier = create_domain_classifier(5, (4, 6, 8, 10))
    params, state = jax.jit(classifier.init)(jax.random.key(1))
    apply = jax.jit(classifier.apply, static_argnames="train")
    maps = np.random.default_rng(0).choice([0, 1, 2, 3, 4, IGNORE_LABEL], (3, 62, 97))
    maps = maps.astype(np.uint8)
    # Other statistics than those of the start, which would hide a mistake.
    _, state = apply(params, state, maps, train=True)
    logits, _ = apply(params, state, maps, train=train)
    one_hot = np.stack([maps == c for c in range(5)], axis=1).astype(np.float32)
    expected = torch_resnet18(params, state["batch_stats"], torch.from_numpy(one_hot), train=train)
    np.testing.assert_allclose(logits, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_an_ignored_pixel_is_no_class():
    classifier = create_domain_classifier(16, (4, 4, 4, 4))
    params, state = jax.jit(classifier.init)(jax.random.key(0))
    apply = jax.jit(classifier.apply, static_argnames="train")
    logits = [
        apply(params, state, np.full((1, 32, 32), value, np.uint8), train=False)[0]
        for value in (16, IGNORE_LABEL, 3)
    ]
    assert logits[0] == logits[1] != logits[2]


# Label maps.


@pytest.mark.parametrize("held_out_of_target", [False, True])
def test_validation_maps_are_never_trained_on(config, held_out_of_target):
    if held_out_of_target:
        config.data.target_validation = ""
    domains = open_domains(config)
    for train, validation in zip(domains.train, domains.validation, strict=True):
        names = [{p.source[int(i)]["name"] for i in p.indices} for p in (train, validation)]
        assert names[0].isdisjoint(names[1])
        assert len(validation.indices) == len(names[1]) == NUM_VALIDATION
    rest = tiny.NUM_TRAIN - NUM_VALIDATION
    assert [len(part.indices) for part in domains.train] == [
        rest,
        rest if held_out_of_target else tiny.NUM_TRAIN,
    ]
    again = open_domains(config)
    config.seed = 1
    other = open_domains(config)
    for domain in (0, 1):
        chosen, same, different = (
            d.validation[domain].indices.tolist() for d in (domains, again, other)
        )
        assert chosen == same != different


def test_labels_are_read_without_images(config):
    example = open_domains(config).train[0].source[0]
    assert "label" in example
    assert "image" not in example


def test_a_patch_is_cut_and_stretched_to_the_nearest():
    label_map = np.arange(64 * 64).reshape(64, 64) % 251
    label_map = label_map.astype(np.uint8)
    rng = np.random.default_rng(5)
    top, left = (np.random.default_rng(5).integers(64 - 16 + 1, size=2)).tolist()
    patch = label_maps.crop(label_map, 16, (64, 128), rng)
    rows = top + ((np.arange(64) + 0.5) * 16 / 64).astype(int)
    columns = left + ((np.arange(128) + 0.5) * 16 / 128).astype(int)
    np.testing.assert_array_equal(patch, label_map[np.ix_(rows, columns)])
    np.testing.assert_array_equal(label_maps.crop(label_map, None, (64, 64), rng), label_map)


def test_every_place_of_a_patch_is_drawn():
    label_map = np.arange(30, dtype=np.uint8).reshape(5, 6)
    rng = np.random.default_rng(0)
    corners = {int(label_maps.crop(label_map, 3, (3, 3), rng)[0, 0]) for _ in range(200)}
    assert corners == {6 * top + left for top in range(3) for left in range(4)}


def test_batches_are_a_function_of_seed_run_and_step(config):
    domains = open_domains(config)

    def create(patch_size=8, seed=0, run=0):
        return label_maps.create_train_batches(
            domains, SIZE, patch_size, batch_size=2, seed=seed, run=run
        )

    batches, again = create(), create()
    assert batches[0].shape == (4, *SIZE)
    assert batches[0].dtype == np.uint8
    for step in (0, 5, 99):
        np.testing.assert_array_equal(batches[step], again[step])
        assert not np.array_equal(batches[step], create(run=1)[step])
        assert not np.array_equal(batches[step], create(seed=1)[step])
    # The same maps are cut at other places in another epoch: 7 source maps in order, 2 a step.
    patches = [batches[step][0].tobytes() for step in range(35)]
    assert len(set(patches)) > 20
    wholes = {
        domains.train[domain].source[int(i)]["label"].tobytes(): domain
        for domain in (0, 1)
        for i in domains.train[domain].indices
    }
    whole_batch = create(None)[3]
    assert [wholes[whole.tobytes()] for whole in whole_batch] == [0, 0, 1, 1]


def test_validation_patches_stay_where_they_are(config):
    domains = open_domains(config)
    wholes = label_maps.read_validation_maps(domains, (64, 48))
    for part, half in zip(domains.validation, np.split(wholes, 2), strict=True):
        label = Image.fromarray(part.source[int(part.indices[2])]["label"])
        nearest = np.asarray(label.resize((48, 64), Image.Resampling.NEAREST))
        np.testing.assert_array_equal(half[2], nearest)
    patches = label_maps.crop_validation_maps(wholes, 16, seed=0)
    assert patches.shape == wholes.shape == (2 * NUM_VALIDATION, 64, 48)
    np.testing.assert_array_equal(patches, label_maps.crop_validation_maps(wholes, 16, seed=0))
    assert not np.array_equal(patches, label_maps.crop_validation_maps(wholes, 16, seed=1))
    assert label_maps.crop_validation_maps(wholes, None, seed=0) is wholes


# The experiment.


def test_an_interrupted_experiment_continues_to_the_same_numbers(config, tmp_path):
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    expected = experiment.run_experiment(config, straight)
    config.num_runs, config.patch_sizes = 1, (16,)
    experiment.run_experiment(config, parts)
    kept = {path: path.read_bytes() for path in (parts / "curves").iterdir()}
    assert {path.name for path in kept} == {"patch_whole_run_0.json", "patch_16_run_0.json"}
    config.num_runs, config.patch_sizes = 2, (8, 16)  # Sizes and runs may be added.
    result = experiment.run_experiment(config, parts)
    for path, content in kept.items():  # The seconds in them tell one training from another.
        assert path.read_bytes() == content
    assert result.summaries == expected.summaries
    csv_file = f"{report.FILE_STEM}.csv"
    assert (parts / csv_file).read_bytes() == (straight / csv_file).read_bytes()

    rows = list(csv.DictReader((straight / csv_file).read_text().splitlines()))
    assert [row["patch_size"] for row in rows[::4]] == ["whole", "16", "8"]
    assert [(row["run"], row["step"]) for row in rows[:4]] == [
        ("0", "2"),
        ("0", "3"),
        ("1", "2"),
        ("1", "3"),
    ]
    assert rows[:2] != rows[2:4]
    for row in rows:
        errors = [float(row[f"{name}_error"]) for name in ("validation", "source", "target")]
        assert errors[0] == pytest.approx((errors[1] + errors[2]) / 2)
    content = json.loads((straight / f"{report.FILE_STEM}.json").read_text())
    assert content["advice"] == expected.advice
    assert content["settings"]["data"]["size"] == list(SIZE)
    assert content["summary"].keys() == {"whole", "16", "8"}
    assert content["versions"]["jax"] == jax.__version__
    with Image.open(straight / f"{report.FILE_STEM}.png") as picture:
        assert min(picture.size) > 400

    config.seed = 1
    with pytest.raises(UserError, match=r"another experiment: config\.seed is 0 there and 1 here"):
        experiment.run_experiment(config, parts)
    config.seed = 0
    (parts / "curves" / "patch_8_run_1.json").write_text("{}")
    with pytest.raises(UserError, match=r"patch_8_run_1\.json is damaged"):
        experiment.run_experiment(config, parts)


class FakeSource:
    """Maps of 8x8 blocks of random classes."""

    def __init__(self, seed: int, classes: range):
        self._seed, self._classes = seed, classes

    def __getitem__(self, index: int):
        rng = np.random.default_rng([self._seed, index])
        blocks = rng.choice(np.array(self._classes, np.uint8), (4, 4))
        return {"label": np.kron(blocks, np.ones((8, 8), np.uint8))}


@pytest.mark.parametrize(
    ("target_classes", "low", "high", "sentence"),
    [
        (range(8, 16), 0.0, 0.02, "even the smallest are told apart easily"),
        (range(8), 0.4, 0.6, "Alignment of any scope will do"),
    ],
)
def test_errors_are_0_for_other_classes_and_chance_for_the_same(
    config, tmp_path, monkeypatch, target_classes, low, high, sentence
):
    splits = [FakeSource(seed, range(8)) for seed in (1, 2)]
    splits[1] = FakeSource(2, target_classes)
    domains = label_maps.Domains(
        tuple(label_maps.Part(split, np.arange(60, 400)) for split in splits),
        tuple(label_maps.Part(split, np.arange(60)) for split in splits),
    )
    monkeypatch.setattr(label_maps, "open_domains", lambda *_, **__: domains)
    config.num_runs, config.num_steps, config.eval_every_steps = 1, 60, 20
    config.patch_sizes, config.data.size, config.num_validation = (16,), (32, 32), 60
    config.widths, config.data.batch_size, config.eval_batch_size = (8, 8, 8, 8), 8, 50
    config.learning_rate = 0.02
    result = experiment.run_experiment(config, tmp_path)
    assert all(low <= s.final_error <= high for s in result.summaries), result.summaries
    assert sentence in result.advice


def test_a_loss_that_is_not_finite_ends_in_one_sentence(config, tmp_path):
    config.learning_rate = 1e38
    with pytest.raises(UserError, match=r"between steps 1 and 2: expected a finite"):
        experiment.run_experiment(config, tmp_path)


# The advice.


@pytest.mark.parametrize(
    ("whole", "patches", "expected"),
    [
        (0.01, {64: 0.48, 128: 0.42, 256: 0.21, 384: 0.06}, "local alignment on patches of 256 "),
        (0.064, {8: 0.36, 16: 0.32, 32: 0.19, 48: 0.125}, "local alignment on patches of 32 "),
        (0.47, {8: 0.5, 32: 0.46}, "Alignment of any scope will do: even whole"),
        (0.45, {8: 0.5, 32: 0.2}, "patches of 32: 20.0 ± 1.0 % is below whole maps: 45.0"),
        (0.01, {8: 0.04, 32: 0.02}, "the smallest are told apart easily (patches of 8: 4.0 ± 1.0"),
        (0.01, {8: 0.44, 16: 0.42, 32: 0.02}, "between patches of 16: 42.0 ± 1.0 %, near chance, "),
        (0.01, {8: 0.44, 16: 0.42}, "near chance, and whole maps: 1.0 ± 1.0 %, told apart easily"),
        (0.25, {8: 0.39, 32: 0.28}, "try patches of 32 (28.0 ± 1.0 %), the closest to the paper's"),
        (0.312, {32: 0.188, 16: 0.375}, "patches of 32: 18.8 ± 1.0 % is below whole maps: 31.2"),
        (0.42, {32: 0.39}, "Alignment of any scope will do: even whole"),  # By chance.
        (0.25, {8: 0.45, 32: 0.24}, "no patch size is both harder than that and better than"),
    ],
)
def test_the_advice_follows_the_errors(whole, patches, expected):
    summaries = [
        PatchSummary(patch_size, error, 0.01, (None,))
        for patch_size, error in {None: whole, **patches}.items()
    ]
    sentence = advise(summaries, num_steps=500, size=(512, 1024))
    assert expected in sentence
    assert "after 500 steps" in sentence
    assert sentence.count(". ") == 0
    assert sentence.endswith(".")


def test_a_classifier_of_one_answer_gives_no_advice():
    def write(whole, patches, *, constant) -> str:
        summaries = [
            PatchSummary(size, error, None, (None,), is_constant=size in constant)
            for size, error in {None: whole, **patches}.items()
        ]
        return advise(summaries, num_steps=20, size=(64, 128))

    expected = (
        "No advice: whole maps of both domains all get the same answer (an error of 0 % on one "
        "domain and 100 % on the other), so the classifier has not learned yet (errors after 20 "
        "steps, 50 % is chance); raise --config.num_steps."
    )
    assert write(0.5, {8: 0.5, 32: 0.5}, constant=(None, 8, 32)) == expected
    assert write(0.5, {8: 0.5, 32: 0.5}, constant=(None,)) == expected
    assert "No advice: patches of 8 of both" in write(0.01, {8: 0.5, 32: 0.02}, constant=(8,))
    # Patches near chance do not matter where others are in between.
    assert "on patches of 32" in write(0.01, {8: 0.5, 32: 0.2}, constant=(8,))


def test_a_curve_is_constant_if_one_domain_is_all_wrong_and_the_other_right():
    def curve(*errors) -> report.Curve:
        points = [report.Point(i, 0.5, *pair, 0.1) for i, pair in enumerate(errors)]
        return report.Curve(8, 0, 1.0, tuple(points))

    assert curve((0.3, 0.2), (0.0, 1.0)).is_constant()
    assert curve(*[(0.3, 0.2)] * 6, (1.0, 0.0), (0.0, 1.0)).is_constant()
    assert not curve((0.0, 1.0), (0.5, 0.5)).is_constant()
    assert not curve((0.0, 1.0), (0.0, 0.0)).is_constant()


def test_a_single_run_has_no_deviation():
    summaries = [PatchSummary(None, 0.02, None, (50,)), PatchSummary(8, 0.2, None, (None,))]
    assert "±" not in advise(summaries, num_steps=10, size=(64, 128))
    assert advise(summaries[:1], num_steps=10, size=(64, 128)).startswith("No advice yet")


def test_summaries_average_the_last_validations(config):
    def curve(patch_size, run, *errors):
        points = [report.Point(50 * (i + 1), e, e, e, 0.1) for i, e in enumerate(errors)]
        return report.Curve(patch_size, run, 1.0, tuple(points))

    eight = [0.5, 0.4, 0.3, 0.3, 0.2, 0.1, 0.12, 0.08]
    curves = [curve(8, 1, *eight), curve(None, 0, 0.3, 0.0), curve(8, 0, *eight[:7], 0.48)]
    result = report.summarise(settings.build_settings(config), curves)
    whole, patches = result.summaries
    assert dataclasses.astuple(whole) == (None, 0.0, None, (100,), False)
    assert patches.final_error == pytest.approx((0.1 + 0.3) / 2)
    assert patches.final_error_std == pytest.approx(0.02**0.5)
    assert patches.steps_to_20_percent == (250, 250)
    assert report.Curve.from_json(curves[0].to_json()) == curves[0]


# Wrong input.


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("patch_sizes", (8, 64), r"config\.patch_sizes is \[8, 64\]: expected patches inside the"),
        ("patch_sizes", (8, 8), r"expected different sides"),
        ("patch_sizes", (), r"expected a non-empty list"),
        ("num_runs", 0, r"config\.num_runs is 0: expected at least 1"),
        ("momentum", 1.0, r"config\.momentum is 1\.0: expected at least 0 and below 1"),
        ("num_validation", 12, r"tiny/source:train has 12 label maps: expected at least 13"),
        ("num_validation", 8, r"tiny/target:validation has 7 label maps: expected at least 8"),
        ("data.label_set", "cityscapes_17", r"expected one of camvid_11, cityscapes_13"),
        ("data.target", "tiny/target_unlabelled", r"has no labels, only the features image, name"),
        ("data.target", "tiny/source", r"are both tiny/source:train: expected two domains"),
        ("data.target_validation_split", "train[:5]", r"may hold maps of config\.data\.target"),
        ("data.source", "nowhere", r"No prepared dataset at"),
    ],
)
def test_wrong_configurations_are_refused_before_anything_is_written(
    config, tmp_path, field, value, message
):
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message) as caught:
        experiment.run_experiment(config, tmp_path / "shift")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "shift").exists()


@pytest.mark.parametrize("variant", domain_shift.VARIANTS)
def test_every_variant_is_valid(variant):
    settings.build_settings(domain_shift.get_config(variant))


def test_the_command_ends_in_one_sentence(tmp_path):
    result = call(
        "alp_jax.domain_shift",
        f"--output={tmp_path / 'shift'}",
        "--config=configs/domain_shift.py:toy_cities",
        "--config.patch_sizes=16,96",
    )
    expected = "config.patch_sizes is [16, 96]: expected patches inside the maps of 64x128"
    assert expected in read_error(result)
    assert not (tmp_path / "shift").exists()
