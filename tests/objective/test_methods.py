"""Questions asked of every method in configs/methods; each is compiled once, for all of them.

A new file in that folder is tested here without an entry anywhere.
"""

import json
import math
import pkgutil

import jax
import numpy as np
import pytest

import configs
from alp_jax.data.samples import Sample
from alp_jax.settings import kinds
from alp_jax.workdir.checkpoint import Checkpoints
from alp_jax.workdir.settings import build_settings
from configs import default, toy_cities
from tests.objective import goldens, methods

# Files of configs whose variants are methods.
EXPERIMENTS = [
    module.name
    for module in pkgutil.iter_modules(configs.__path__)
    if not module.ispkg and not module.name.startswith("domain_shift")
]


@pytest.fixture(scope="session", params=default.list_methods())
def name(request):
    return request.param


@pytest.fixture(scope="session")
def method(name):
    return methods.compile_method(name)


def assert_equal(found, expected) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_is_valid_in_every_experiment(name, experiment):
    module = kinds.load_module("configs", experiment)
    settings = build_settings(module.get_config(name))
    assert settings.views
    assert settings.terms


@pytest.mark.parametrize("variant", [toy_cities.EQUAL_PIXELS, *toy_cities.WARMUPS])
def test_other_variants_of_the_demo_are_valid(variant):
    assert build_settings(toy_cities.get_config(variant)).terms


def test_three_steps_log_what_the_reference_does(name, method):
    expected = goldens.expect_scalars(name, method)
    if expected is None:
        pytest.fail(
            f"{name} has parts that tests/torch_run.py lacks, and no golden: extend the reference, "
            f"or look at what the steps log and store it by {goldens.COMMAND}."
        )
    for step, (found, scalars) in enumerate(zip(method.run.scalars, expected, strict=True)):
        assert found.keys() == scalars.keys()
        for key, value in scalars.items():
            assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-7), (step, key)


def test_three_steps_are_one_program(method):
    assert len(method.run.states) == 1 + methods.NUM_STEPS
    assert method.num_traces == 1


def test_labels_of_the_target_are_never_read(method):
    """With them the program is the same, so it has no input for them."""
    if "target" not in method.batch:
        return
    target = method.batch["target"]
    assert target.labels is None
    labels = np.random.default_rng(1).integers(0, 16, target.images.shape[:3]).astype(np.uint8)
    labelled = {**method.batch, "target": Sample(target.images, labels)}
    assert method.has_same_program(labelled)


def test_a_weight_of_0_is_as_if_the_term_was_not_there(method):
    terms = method.setup.objective.terms
    if len(terms) == 1 or len(method.setup.objective.phases) > 1:
        return  # Every phase is an update, whatever its terms weigh.
    part = methods.compile_part(method, 1)
    assert part.setup.objective.terms == terms[:1]
    without, _ = part.step(method.start.replace(discriminator=None))
    found, _ = method.step(method.start, weights={term.name: 0.0 for term in terms[1:]})
    assert_equal(found.segmenter.params, without.segmenter.params)


def test_a_run_that_is_saved_and_restored_goes_on_with_the_same_bits(method, tmp_path):
    _, after_1, after_2, *_ = method.run.states
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, after_1)
        checkpoints.ensure_saved(1)
        restored = checkpoints.restore(1, like=jax.eval_shape(lambda: after_1))
    assert_equal(restored, after_1)
    found, scalars = method.step(restored)
    assert_equal(found, after_2)
    assert scalars == method.run.scalars[1]


def test_without_a_single_label_all_numbers_are_finite(method):
    ignored = {
        domain: sample._replace(labels=np.full_like(sample.labels, 255))
        for domain, sample in method.batch.items()
        if sample.labels is not None
    }
    assert ignored
    state, scalars = method.step(method.start, {**method.batch, **ignored})
    assert all(math.isfinite(value) for value in scalars.values()), scalars
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        assert np.isfinite(leaf).all(), methods.name_path(path)


def test_every_parameter_learns_but_for_the_frozen(method):
    """So every parameter is in a group of an optimizer, and something is learned from it."""
    start, *_, end = method.run.states
    players = ["segmenter"] + ["discriminator"] * (start.discriminator is not None)
    for player in players:
        before = jax.tree_util.tree_leaves_with_path(getattr(start, player).params)
        after = jax.tree.leaves(getattr(end, player).params)
        for (path, held), moved in zip(before, after, strict=True):
            keys = [entry.key for entry in path]
            is_frozen = keys[0] == "backbone" and keys[-1] in ("scale", "bias")
            assert np.array_equal(held, moved) == is_frozen, keys


def test_the_state_has_the_paths_and_shapes_of_the_golden(name):
    golden = json.loads(goldens.STATES.read_text())
    (expected,) = [tree for names, tree in golden.items() if name in names.split(", ")] or [{}]
    assert methods.describe_state(name) == expected, (
        "Checkpoints of other versions do not fit the state any more. If that is wanted, write "
        f"the golden anew: {goldens.COMMAND}"
    )


def test_target_images_without_alignment_move_the_statistics_and_nothing_else():
    source_only, target_bn, aligned = (
        methods.compile_method(name).run for name in ("source_only", "target_bn", "alp_gi")
    )
    found = target_bn.states[1].segmenter
    assert_close(found.params, source_only.states[1].segmenter.params)
    assert_close(found.model_state, aligned.states[1].segmenter.model_state)
    for ours, theirs in zip(
        jax.tree.leaves(found.model_state),
        jax.tree.leaves(source_only.states[1].segmenter.model_state),
        strict=True,
    ):
        assert not np.allclose(ours, theirs, rtol=1e-3)
    assert not any("adversarial" in key or "discriminator" in key for key in target_bn.scalars[0])


def assert_close(found, expected) -> None:
    def compare(ours, theirs):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)

    jax.tree.map(compare, found, expected)
