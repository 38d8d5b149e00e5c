from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from alp_jax import models
from alp_jax.errors import UserError
from alp_jax.models.backbones.resnet import ResNetSettings
from alp_jax.models.settings import ModelSettings
from alp_jax.objective import optim
from alp_jax.objective.optimizer_settings import OptimizerSettings
from tests import torch_reference


def make_settings(**fields: Any) -> OptimizerSettings:
    usual = {"segmenter_learning_rate": 0.1, "poly_power": 0.0, "horizon_steps": 100}
    return OptimizerSettings(**{**usual, **fields})


def make_segmenter(*, train_affine: bool) -> models.Segmenter:
    backbone = ResNetSettings(batch_norm_train_affine=train_affine)
    return models.create_segmenter(ModelSettings(backbone=backbone), 19)


def create_optimizer(*, train_affine: bool = False, **fields: Any) -> optim.Optimizer:
    segmenter = make_segmenter(train_affine=train_affine)
    return optim.create_segmenter_optimizer(make_settings(**fields), segmenter)


def small_params():
    return {
        "backbone": {
            "conv1": {"kernel": jnp.ones(1)},
            "bn1": {"scale": jnp.ones(1)},
            "layer1_0": {
                "conv1": {"kernel": jnp.ones(1)},
                "downsample_conv": {"kernel": jnp.ones(1)},
                "downsample_bn": {"bias": jnp.ones(1)},
            },
        },
        "classifier": {"branch0": {"kernel": jnp.ones(1), "bias": jnp.ones(1)}},
    }


def run(optimizer, params, gradient, num_steps):
    opt_state = optimizer.transform.init(params)
    for _ in range(num_steps):
        grads = jax.tree.map(lambda p: jnp.full_like(p, gradient), params)
        updates, opt_state = optimizer.transform.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
    return params


def test_sgd_is_pytorchs():
    # From p = 1, three steps of gradient 1 at rate 0.1, momentum 0.9, decay 5e-4 end at 0.438744.
    params = run(create_optimizer(), small_params(), 1.0, 3)
    assert float(params["backbone"]["conv1"]["kernel"][0]) == pytest.approx(0.438744, abs=1e-6)


@pytest.mark.parametrize(
    ("preset", "block", "projection"),
    [("reference", -2.488059, -4.541727), ("clean", 0.438744, 0.438744)],
)
def test_presets_visit_a_parameter_as_often_as_published_code_or_once(preset, block, projection):
    # Ends of the toy problem above, by PyTorch 0.4's rules, of a tensor listed three or four times.
    optimizer = create_optimizer(train_affine=True, sgd_preset=preset)
    backbone = run(optimizer, small_params(), 1.0, 3)["backbone"]
    ends = {
        "stem": (backbone["conv1"]["kernel"], 0.438744),
        "stem's batch norm": (backbone["bn1"]["scale"], 0.438744),
        "block": (backbone["layer1_0"]["conv1"]["kernel"], block),
        "projection": (backbone["layer1_0"]["downsample_conv"]["kernel"], projection),
        "projection's batch norm": (backbone["layer1_0"]["downsample_bn"]["bias"], projection),
    }
    for name, (actual, expected) in ends.items():
        assert float(actual[0]) == pytest.approx(expected, abs=2e-6), name


def test_one_visit_is_optax_sgd():
    schedule = optax.polynomial_schedule(0.1, 0.0, 0.9, 10)
    ours = optim.repeated_sgd(schedule, momentum=0.9, weight_decay=5e-4, repeats=1)
    theirs = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(schedule, momentum=0.9))
    params = other = {"p": jnp.linspace(-1.0, 1.0, 7)}
    state, other_state = ours.init(params), theirs.init(params)
    for step in range(4):
        grads = {"p": jnp.sin(step + jnp.arange(7.0))}
        updates, state = ours.update(grads, state, params)
        other_updates, other_state = theirs.update(grads, other_state, other)
        params, other = (
            optax.apply_updates(params, updates),
            optax.apply_updates(other, other_updates),
        )
    np.testing.assert_array_equal(params["p"], other["p"])


def test_classifier_learns_ten_times_faster_and_frozen_affine_not_at_all():
    params = run(create_optimizer(), small_params(), 1.0, 1)
    assert float(params["backbone"]["conv1"]["kernel"][0]) == pytest.approx(1 - 0.1 * 1.0005)
    assert float(params["classifier"]["branch0"]["bias"][0]) == pytest.approx(-0.0005, abs=1e-6)
    assert float(params["backbone"]["bn1"]["scale"][0]) == 1.0
    params = run(create_optimizer(train_affine=True), small_params(), 1.0, 1)
    assert float(params["backbone"]["bn1"]["scale"][0]) == pytest.approx(1 - 0.1 * 1.0005)


def test_clipping_bounds_the_global_norm():
    optimizer = create_optimizer(gradient_clip_norm=0.5, weight_decay=0.0)
    params = run(optimizer, small_params(), 1.0, 1)
    # Seven gradients of 1 have norm sqrt(7); clipped to 0.5 each is 0.5 / sqrt(7).
    expected = 1 - 0.1 * 0.5 / np.sqrt(7)
    assert float(params["backbone"]["conv1"]["kernel"][0]) == pytest.approx(expected)


def test_every_parameter_of_resnet101_has_a_group():
    segmenter = make_segmenter(train_affine=False)
    params, _ = jax.eval_shape(segmenter.init, jax.random.key(0))
    groups = jax.tree.leaves(segmenter.groups(params))
    trained = [group for group in groups if group.part == "backbone"]
    # The published list has 314 entries of 104 tensors.
    counts = {n: sum(group.repeats == n for group in trained) for n in (1, 3, 4)}
    assert counts == {1: 1, 3: 99, 4: 4}
    assert sum(group.repeats for group in trained) == 314
    assert sum(group.part == "decoder" for group in groups) == 8
    assert sum(group.part == "frozen" for group in groups) == 2 * 104
    assert {group.depth for group in groups} == {0, 1, 2, 3, 4}
    assert sum(not group.decays for group in groups) == 2 * 104


@pytest.mark.parametrize("preset", ["reference", "clean"])
@pytest.mark.parametrize("train_affine", [True, False])
@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_paths_of_the_state_are_those_of_existing_checkpoints(preset, train_affine, clip_norm):
    """Groups without a parameter count their updates nevertheless."""
    optimizer = create_optimizer(
        train_affine=train_affine, sgd_preset=preset, gradient_clip_norm=clip_norm
    )
    state = jax.eval_shape(optimizer.transform.init, small_params())
    partition = state[1] if clip_norm else state
    names = ["backbone[1]", "backbone[3]", "backbone[4]", "classifier", "frozen"]
    assert list(partition.inner_states) == names
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    counters = [path for path in paths if path.endswith(".num_updates")]
    prefix = "[1]" if clip_norm else ""
    assert counters == [
        f"{prefix}.inner_states['{name}'].inner_state.num_updates" for name in names[:4]
    ]
    assert len(paths) == 4 + (7 if train_affine else 5)


def test_a_parameter_without_a_group_is_an_error():
    segmenter = make_segmenter(train_affine=False)
    with pytest.raises(UserError, match="decoder/kernel belongs to no part of the network: expec"):
        segmenter.groups({"decoder": {"kernel": 0}})
    with pytest.raises(UserError, match="backbone/conv1/scales belongs to no group: expected ResN"):
        segmenter.groups({"backbone": {"conv1": {"scales": 0}}})


def test_poly_schedule():
    settings = make_settings(poly_power=0.9, horizon_steps=250_000)
    schedule = optim.create_schedule(settings, 2.5e-4)
    for step in (0, 1, 1000, 120_000, 150_000, 250_000, 300_000):
        expected = 2.5e-4 * max(1 - step / 250_000, 0.0) ** 0.9
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_warmup_is_clans():
    settings = make_settings(poly_power=0.9, horizon_steps=100, warmup_steps=5)
    schedule = optim.create_schedule(settings, 0.2)
    expected = [0.2 * i / 5 if i < 5 else 0.2 * (1 - i / 100) ** 0.9 for i in range(101)]
    found = [float(schedule(step)) for step in range(101)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_schedules_are_as_precise_as_what_they_multiply():
    settings = make_settings(poly_power=0.9, horizon_steps=70)
    with jax.enable_x64(True):
        rate = optim.create_schedule(settings, 0.1)(jnp.asarray(13, jnp.int32))
    assert float(rate) == pytest.approx(0.1 * (1 - 13 / 70) ** 0.9, rel=1e-14)


@pytest.mark.parametrize("eps", [1e-8, 0.3])
@pytest.mark.parametrize("preset", ["reference", "clean"])
def test_adam_is_pytorchs_of_its_time(preset, eps):
    settings = make_settings(
        discriminator_learning_rate=0.05, adam_eps=eps, adam_b2=0.99, adam_preset=preset
    )
    ours = optim.create_own_optimizer(settings).transform
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        params = {"p": jnp.asarray(rng.standard_normal(5))}
        theirs = torch.nn.Parameter(torch.from_numpy(np.array(params["p"])))
        create = torch_reference.EarlyAdam if preset == "reference" else torch.optim.Adam
        adam = create([theirs], lr=0.05, betas=(0.9, 0.99), eps=eps)
        state = ours.init(params)
        for _ in range(6):
            grad = rng.standard_normal(5)
            updates, state = ours.update({"p": jnp.asarray(grad)}, state, params)
            params = optax.apply_updates(params, updates)
            theirs.grad = torch.from_numpy(grad)
            adam.step()
        np.testing.assert_allclose(params["p"], theirs.detach().numpy(), rtol=1e-12)


def test_discriminators_may_have_sgd():
    settings = make_settings(
        discriminator_optimizer="sgd", discriminator_learning_rate=0.1, weight_decay=0.01
    )
    optimizer, params = optim.create_own_optimizer(settings), {"p": jnp.ones(1)}
    state = optimizer.transform.init(params)
    for _ in range(2):
        updates, state = optimizer.transform.update({"p": jnp.ones(1)}, state, params)
        params = optax.apply_updates(params, updates)
    first = 1 - 0.1 * 1.01
    assert float(params["p"][0]) == pytest.approx(
        first - 0.1 * (0.9 * 1.01 + 1 + 0.01 * first), abs=1e-6
    )


def test_phases_share_velocities_and_the_schedule():
    """The classifier learns in two updates of a step, the backbone in one; decay is per step."""
    updates = [optim.Update(), optim.Update(("decoder",))]
    settings = make_settings(poly_power=1.0, horizon_steps=10, sgd_preset="clean", weight_decay=0.0)
    optimizer = optim.create_segmenter_optimizer(
        settings, make_segmenter(train_affine=False), updates
    )
    params = small_params()
    state, ones = optimizer.transform.init(params), jax.tree.map(jnp.ones_like, params)
    velocity, backbone, classifier = 0.0, 1.0, 1.0
    for step in range(3):
        rate = 0.1 * (1 - step / 10)
        for phase in range(2):
            moved, state = optimizer.of_phase(phase).update(ones, state, params)
            params = optax.apply_updates(params, moved)
            velocity = 0.9 * velocity + 1
            classifier -= 10 * rate * velocity
        backbone -= rate * sum(0.9**i for i in range(step + 1))
        assert float(params["classifier"]["branch0"]["bias"][0]) == pytest.approx(classifier)
        assert float(params["backbone"]["conv1"]["kernel"][0]) == pytest.approx(backbone)


def test_adam_is_that_of_the_paper():
    settings = make_settings(discriminator_learning_rate=0.1, adam_preset="clean")
    optimizer = optim.create_own_optimizer(settings)
    params, opt_state = {"p": jnp.ones(1)}, None
    opt_state = optimizer.transform.init(params)
    m = v = 0.0
    p = 1.0
    for t, gradient in enumerate([1.0, -2.0, 0.5], start=1):
        grads = {"p": jnp.full(1, gradient)}
        updates, opt_state = optimizer.transform.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2
        p -= 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
        assert float(params["p"][0]) == pytest.approx(p, rel=1e-5)
