"""Properties that hold for any input: patches, maps, losses, metrics, labels, configuration, files.

python -m pytest tests/test_properties.py                              # 200 examples of each
python -m pytest tests/test_properties.py --hypothesis-profile=long    # 10,000
"""

import io
import json
import pathlib
import shutil
import tempfile

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume, example, given
from hypothesis import strategies as st
from PIL import Image

from alp_jax.data.labels import (
    CITYSCAPES_TABLE,
    IGNORE_LABEL,
    LabelTable,
    list_label_sets,
    load_label_set,
)
from alp_jax.evaluation import metrics
from alp_jax.objective import losses, maps, patches
from alp_jax.objective.settings import create_objective
from alp_jax.settings import compare, upgrade
from alp_jax.workdir import config, manifest, writers
from configs import default
from data_prep.raw.label_map import LabelMap, load_label_map
from tests import same_bits
from tests.refusals import refusal

# Few shapes: each is compiled once.
SHAPES = st.sampled_from([(2, 4, 5, 3), (1, 1, 1, 2), (1, 7, 3, 19)])
EXTREME = st.floats(-1e4, 1e4, width=32)


@st.composite
def arrays(draw, shapes=SHAPES, elements=EXTREME):
    return draw(hnp.arrays(np.float32, draw(shapes), elements=elements))


@st.composite
def logits_and_labels(draw, elements=EXTREME):
    """Logits and labels of which some, or all, are ignored."""
    logits = draw(arrays(elements=elements))
    valid = st.integers(0, logits.shape[-1] - 1)
    labels = draw(
        hnp.arrays(np.int32, logits.shape[:-1], elements=st.one_of(valid, st.just(IGNORE_LABEL)))
    )
    return logits, labels


# Patches -----------------------------------------------------------------------------------------

_sample = jax.jit(patches.sample_offsets, static_argnums=(1, 2, 3, 4))
_slice = jax.jit(patches.slice_patches, static_argnums=2)
_upsample = jax.jit(patches.upsample, static_argnums=1)
_upsample_patches = jax.jit(patches.upsample_patches, static_argnums=(2, 3))


@given(st.integers(0, 2**31 - 1), st.sampled_from([((4, 6), (4, 6)), ((4, 6), (1, 2))]))
def test_patches_lie_inside_the_map(seed, sizes):
    map_size, patch_size = sizes
    offsets = np.asarray(_sample(jax.random.key(seed), 3, map_size, patch_size, 2))
    assert offsets.shape == (3, 2, 2)
    assert (offsets >= 0).all()
    assert (offsets + patch_size <= map_size).all()


@given(arrays(st.just((2, 5, 6, 3))), st.integers(0, 2), st.integers(0, 3))
def test_a_patch_is_a_slice(array, row, column):
    offsets = np.array([[[row, column]], [[2 - row, 3 - column]]], np.int32)
    found = np.asarray(_slice(array, offsets, (3, 3)))
    np.testing.assert_array_equal(found[0], array[0, row : row + 3, column : column + 3])
    np.testing.assert_array_equal(found[1], array[1, 2 - row : 5 - row, 3 - column : 6 - column])


@given(arrays(st.just((2, 3, 4, 2)), st.floats(-100, 100, width=32)), st.integers(0, 2**31 - 1))
def test_an_upsampled_patch_is_a_patch_of_the_upsampled_map(array, seed):
    size, patch_size = (7, 9), (4, 5)
    offsets = _sample(jax.random.key(seed), 2, size, patch_size, 1)
    expected = _slice(_upsample(array, size), offsets, patch_size)
    found = _upsample_patches(array, offsets, size, patch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


@given(arrays(elements=st.floats(-100, 100, width=32)))
def test_upsampling_stays_between_the_values_and_keeps_the_corners(array):
    found = np.asarray(_upsample(array, (9, 11)))
    assert found.min() >= array.min() - 1e-3
    assert found.max() <= array.max() + 1e-3
    np.testing.assert_allclose(found[:, 0, 0], array[:, 0, 0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found[:, -1, -1], array[:, -1, -1], rtol=1e-5, atol=1e-4)


# Maps and losses ---------------------------------------------------------------------------------

_self_information, _entropy = jax.jit(maps.self_information), jax.jit(maps.entropy)
_MAP_GRADIENTS = {
    kind: jax.jit(jax.grad(lambda logits, kind=kind: jnp.sum(maps.compute_map(logits, kind) ** 2)))
    for kind in maps.MAP_KINDS
}
_cross_entropy = jax.jit(losses.cross_entropy)
_cross_entropy_gradient = jax.jit(jax.grad(lambda x, labels: losses.cross_entropy(x, labels)[0]))
_domain_cross_entropy = jax.jit(losses.domain_cross_entropy, static_argnums=1)


@given(arrays())
def test_maps_are_finite_and_in_their_range_and_so_are_their_gradients(logits):
    information = np.asarray(_self_information(logits))
    assert ((information >= 0) & (information <= 1 / np.e + 1e-6)).all()
    entropy = np.asarray(_entropy(logits))
    assert ((entropy >= 0) & (entropy <= 1 + 1e-5)).all()
    for kind in maps.MAP_KINDS:
        assert np.isfinite(_MAP_GRADIENTS[kind](logits)).all(), kind


@given(logits_and_labels())
def test_cross_entropy_is_that_of_the_valid_pixels_alone(drawn):
    logits, labels = drawn
    valid = labels != IGNORE_LABEL
    total, count = _cross_entropy(logits, labels)
    assert count == valid.sum()
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(log_probs, np.where(valid, labels, 0)[..., None], -1)[..., 0]
    np.testing.assert_allclose(total, -picked[valid].sum(), rtol=1e-4, atol=1e-3)
    gradient = np.asarray(_cross_entropy_gradient(logits, labels))
    assert np.isfinite(gradient).all()
    assert (gradient[~valid] == 0).all()
    if not valid.any():
        assert total == 0


@given(logits_and_labels(), st.integers(-(2**31), 2**31 - 1))
def test_a_label_of_no_class_cannot_go_unnoticed(drawn, label):
    logits, labels = drawn
    assume(label != IGNORE_LABEL and not 0 <= label < logits.shape[-1])
    labels[0, 0, 0] = label
    assert np.isnan(_cross_entropy(logits, labels)[0])


@given(arrays(st.just((2, 3, 3, 1))), st.sampled_from([losses.SOURCE_LABEL, losses.TARGET_LABEL]))
def test_domain_losses_are_finite_and_symmetric(domain_logits, domain):
    loss = float(_domain_cross_entropy(domain_logits, domain))
    mirrored = float(_domain_cross_entropy(-domain_logits, 1 - domain))
    assert 0 <= loss < np.inf
    np.testing.assert_allclose(loss, mirrored, rtol=1e-5, atol=1e-6)
    assert 0 <= float(losses.domain_accuracy(jnp.asarray(domain_logits), domain)) <= 1


# Metrics and labels ------------------------------------------------------------------------------


@given(
    hnp.arrays(np.int32, (3, 4), elements=st.integers(0, 15)),
    hnp.arrays(np.int32, (3, 4), elements=st.integers(-(2**31), 2**31 - 1) | st.integers(0, 255)),
)
def test_the_confusion_counts_each_valid_pixel_once_and_no_other(predictions, labels):
    found = np.asarray(metrics.compute_confusion(jnp.asarray(predictions), jnp.asarray(labels), 16))
    expected = np.zeros((16, 16), int)
    for prediction, label in zip(predictions.ravel(), labels.ravel(), strict=True):
        if 0 <= label < 16:
            expected[label, prediction] += 1
    np.testing.assert_array_equal(found, expected)


@given(hnp.arrays(np.int64, (16, 16), elements=st.integers(0, 2**40) | st.just(0)))
@example(np.zeros((16, 16), np.int64))
def test_scores_are_in_their_range_and_ready_for_json(confusion):
    summary = metrics.summarise(confusion, load_label_set("cityscapes_16"))
    text = json.dumps(summary, allow_nan=False)
    for name in ("mean_iou", "mean_iou_16", "mean_iou_13"):
        value = json.loads(text).get(name)
        assert value is None or 0 <= value <= 1
    assert summary["num_pixels"] == confusion.sum()
    order = np.random.default_rng(0).permutation(16)
    permuted = metrics.iou_per_class(confusion[np.ix_(order, order)])
    np.testing.assert_array_equal(permuted, metrics.iou_per_class(confusion)[order])


@given(hnp.arrays(np.uint8, (3, 4)), st.sampled_from(list_label_sets()))
def test_train_ids_are_classes_or_ignored_and_come_back(values, name):
    """Values are Cityscapes' for its label sets, and the sets' own for others."""
    label_set = load_label_set(name)
    own = LabelTable({found.label_id: found.name for found in label_set.classes})
    table = CITYSCAPES_TABLE if name.startswith("cityscapes_") else own
    train_ids = label_set.map_table(table)[values]
    assert ((train_ids < label_set.num_classes) | (train_ids == IGNORE_LABEL)).all()
    valid = train_ids != IGNORE_LABEL
    np.testing.assert_array_equal(label_set.to_label_ids[train_ids][valid], values[valid])


CLASSES = st.sampled_from(sorted(CITYSCAPES_TABLE.names))


@given(
    hnp.arrays(np.uint8, (3, 4)),
    st.dictionaries(st.integers(0, 255), CLASSES, min_size=1),
    st.integers(0, 34),
)
def test_a_label_map_gives_every_pixel_its_class_or_the_default(values, ids, default_id):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    found = LabelMap(ids, default=default_id).read(buffer.getvalue())
    expected = [[ids.get(int(value), default_id) for value in row] for row in values]
    np.testing.assert_array_equal(found, expected)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = st.text() | st.integers(-1, 70_000).map(str) | st.sampled_from(["default", "#804080", "#"])
NAMES = st.sampled_from(["road", "car", "ignore", "raod"]) | JSON


@given(st.dictionaries(KEYS, NAMES) | JSON, st.sampled_from([".json", ".yaml"]))
def test_any_label_map_is_read_or_refused_in_one_sentence(content, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"map{suffix}"
        path.write_text(json.dumps(content))
        if refusal(lambda: load_label_map(str(path))) is None:
            label_map = load_label_map(str(path))
            values = {*label_map.stored.values(), label_map.default or 0}
            assert values <= {0, *label_map.table.names, *label_map.table.ignored}


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_as_a_label_map_are_read_or_refused_in_one_sentence(data):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "map.yaml"
        path.write_bytes(data)
        refusal(lambda: load_label_map(str(path)))


# Configuration and files -------------------------------------------------------------------------

METHODS = {
    method: {"format": upgrade.FORMAT, **default.get_config(method).to_dict()}
    for method in default.list_methods()
}
FORMAT_1 = json.loads(pathlib.Path(same_bits.__file__).with_name("format_1.json").read_text())[
    "defaults"
]
VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.lists(st.integers(-3, 600) | st.floats(), max_size=4)
    | st.sampled_from(
        ["frozen", "whole", "random", "crops", "images", "batch", "target", "aux", "alignment", {}]
    )
)  # fmt: skip


@st.composite
def edited(draw, fields):
    """A configuration in which somebody changed, added or removed fields and whole blocks."""
    fields = json.loads(json.dumps(fields))
    names = sorted(compare.flatten(fields))
    blocks = {name.rpartition(".")[0] for name in names} - {""}
    for name in draw(st.lists(st.sampled_from([*names, *blocks, "terms.x", "x"]), max_size=3)):
        *sections, last = name.split(".")
        node = fields
        for section in sections:
            node = node.get(section) if isinstance(node, dict) else None
        if isinstance(node, dict):
            if draw(st.integers(0, 3)) == 0:
                node.pop(last, None)
            else:
                node[last] = draw(VALUES)
    return fields


def read(fields):
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / config.FILE_NAME).write_text(json.dumps(fields))
        return config.load(pathlib.Path(folder))


@given(st.sampled_from(sorted(METHODS)).flatmap(lambda method: edited(METHODS[method])))
def test_any_configuration_is_accepted_or_refused_in_one_sentence(fields):
    """As read from a config.json that somebody edited: of any type."""
    message = refusal(lambda: read(fields))
    if message is None:
        settings = read(fields)
        heads = settings.model.head_names
        objective = create_objective(settings.views, settings.terms, heads=heads)
        assert len(objective.terms) == len(fields["terms"])
    else:
        assert "config" in message


@given(edited(FORMAT_1))
def test_any_configuration_of_format_1_is_upgraded_or_refused_in_one_sentence(fields):
    refusal(lambda: read(fields))


@given(JSON)
def test_any_json_as_a_configuration_is_refused_in_one_sentence(content):
    assert "config" in (refusal(lambda: read(content)) or "")


@given(st.binary(max_size=80))
def test_any_bytes_as_a_configuration_are_refused_in_one_sentence(data):
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / config.FILE_NAME).write_bytes(data)
        assert refusal(lambda: config.load(pathlib.Path(folder))) is not None


@given(
    st.dictionaries(
        st.sampled_from(["a", "b/c", "b/d", "_METADATA"]), st.binary(max_size=64), min_size=1
    ),
    st.data(),
)
def test_any_change_of_a_file_is_found(contents, data):
    folder = pathlib.Path(tempfile.mkdtemp())
    try:
        for name, content in contents.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        manifest.write(folder)
        assert manifest.find_fault(folder) is None
        name = data.draw(st.sampled_from([*contents, manifest.FILE_NAME]))
        before = (folder / name).read_bytes()
        after = data.draw(st.binary(max_size=64) | _flipped(before))
        assume(after != before)
        (folder / name).write_bytes(after)
        fault = manifest.find_fault(folder)
        assert fault is not None
        assert "\n" not in fault
    finally:
        shutil.rmtree(folder)


def _flipped(content: bytes) -> st.SearchStrategy[bytes]:
    def flip(bit: int) -> bytes:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)

    return st.integers(0, 8 * len(content) - 1).map(flip) if content else st.just(b"x")


LINES = st.integers(0, 9).map(lambda step: f'{{"step": {step}}}') | st.text(max_size=8)


@given(st.lists(LINES, max_size=5), st.booleans(), st.integers(0, 9))
def test_a_log_keeps_its_steps_or_is_refused_in_one_sentence(lines, ends, step):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "metrics.jsonl"
        path.write_text("\n".join(lines) + "\n" * ends, encoding="utf-8")
        if refusal(lambda: writers.drop_lines_after(path, step)) is None:
            kept = [json.loads(line)["step"] for line in path.read_text().splitlines()]
            assert all(found <= step for found in kept)
