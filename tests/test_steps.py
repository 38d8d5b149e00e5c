import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from alp_jax.objective.choices import Objective

from alp_jax import models
from alp_jax.evaluation import predictor
from alp_jax.objective import losses, optim, patches, state, steps
from alp_jax.run import assembly
from benchmarks import paper_step
from tests import reference, tiny

ALP = Objective(
    use_target=True,
    aligned_map="self_information",
    patch="random",
    patch_size=(16, 16),
    num_patches=2,
    decision="cell",
    game="non_saturating",
    adversarial_weight=0.5,
    aux_cross_entropy_weight=0.25,
    aux_adversarial_weight=0.125,
    batch_norm_update_domains=("source", "target"),
)
NUM_CLASSES = 16
RNG = jax.random.key(7)


def make_sgd(learning_rate: float) -> optim.Optimizer:
    return optim.Optimizer(optax.sgd(learning_rate), lambda _: jnp.asarray(learning_rate))


@functools.cache
def create_players(mode: str, widths: tuple[int, ...], has_discriminator: bool):
    config = tiny.get_config(pathlib.Path("unused"))
    with config.unlocked():
        config.model.backbone.batch_norm_mode = mode
        config.model.backbone.batch_norm_train_affine = True
        config.discriminator.widths = widths
    segmenter = models.create_segmenter(config.model, NUM_CLASSES)
    discriminator = models.create_discriminator(config.discriminator, NUM_CLASSES)
    optimizer = make_sgd(0.0)
    entry = state.create_train_state(
        jax.random.key(0),
        segmenter,
        optimizer,
        discriminator,
        optimizer,
        has_discriminator=has_discriminator,
    )
    return segmenter, discriminator, entry


class Game:
    """Two small players, a batch, and the step that binds them."""

    def __init__(
        self,
        objective: Objective = ALP,
        mode: str = "frozen",
        rates: tuple[float, float] = (0.1, 0.1),
        widths: tuple[int, ...] = (4, 4),
    ):
        self.objective = objective
        self.segmenter, self.discriminator, self.state = create_players(
            mode, widths, objective.aligns
        )
        optimizers = make_sgd(rates[0]), make_sgd(rates[1])
        self.step = jax.jit(
            functools.partial(
                steps.train_step,
                segmenter=self.segmenter,
                discriminator=self.discriminator,
                segmenter_optimizer=optimizers[0],
                discriminator_optimizer=optimizers[1],
                objective=objective,
            )
        )
        rng = np.random.default_rng(0)
        shape = (2, tiny.HEIGHT, tiny.WIDTH)
        self.batch = {
            "source_images": rng.integers(0, 256, (*shape, 3)).astype(np.uint8),
            "source_labels": rng.choice([*range(NUM_CLASSES), 255], shape).astype(np.uint8),
        }
        if objective.use_target:
            self.batch["target_images"] = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)


def replace(objective: Objective = ALP, **fields) -> Objective:
    return Objective(**{**objective.__dict__, **fields})


def trees_equal(a, b) -> bool:
    return jax.tree.all(jax.tree.map(lambda x, y: bool(np.array_equal(x, y)), a, b))


def expected_losses(game: Game) -> dict[str, float]:
    """The objective in numpy, from the segmenter's logits on."""
    objective, entry, size = game.objective, game.state, (tiny.HEIGHT, tiny.WIDTH)

    def offsets(role: int) -> np.ndarray:
        rng = jax.random.fold_in(jax.random.fold_in(RNG, role), 0)
        return np.asarray(
            patches.sample_offsets(rng, 2, size, objective.patch_size, objective.num_patches)
        )

    def cut(arrays: np.ndarray, role: int) -> np.ndarray:
        height, width = objective.patch_size
        return np.array(
            [
                arrays[b, y : y + height, x : x + width]
                for b, corners in enumerate(offsets(role))
                for y, x in corners
            ]
        )

    def domain_losses(images: np.ndarray, role: int) -> tuple[np.ndarray, np.ndarray]:
        if objective.patch == "image_crop":
            images = cut(images, role)
        logits, _ = game.segmenter.apply(
            entry.segmenter.params, entry.segmenter.model_state, jnp.asarray(images), train=True
        )
        logits = reference.upsample(np.asarray(logits["main"], np.float64), images.shape[1:3])
        maps = {
            "softmax": reference.softmax,
            "self_information": reference.self_information,
            "normalized_self_information": lambda x: reference.self_information(x) / np.log(16),
        }[objective.aligned_map](logits)
        if objective.patch == "random":
            maps = cut(maps, role)
        decisions = reference.discriminate(jax.device_get(entry.discriminator.params["main"]), maps)
        if objective.decision == "patch":
            decisions = decisions.mean(axis=(1, 2))
        return logits, decisions

    labels = game.batch["source_labels"]
    if objective.patch == "image_crop":
        labels = cut(labels, 0)
    source_logits, source = domain_losses(game.batch["source_images"], 0)
    _, target = domain_losses(game.batch["target_images"], 1)
    total, count = reference.cross_entropy(source_logits, labels)
    bce = reference.binary_cross_entropy
    if objective.game == "non_saturating":
        adversarial = bce(target, 0)
        discriminator = 0.5 * bce(source, 0) + 0.5 * bce(target, 1)
    else:
        adversarial = -(bce(source, 0) + bce(target, 1))
        discriminator = bce(source, 0) + bce(target, 1)
    return {
        "loss/cross_entropy": total / count,
        "loss/adversarial": adversarial,
        "loss/segmenter": total / count + objective.adversarial_weight * adversarial,
        "loss/discriminator": discriminator,
        "loss/discriminator_source": bce(source, 0),
        "loss/discriminator_target": bce(target, 1),
        "discriminator_accuracy/source": float(np.mean(source <= 0)),
        "discriminator_accuracy/target": float(np.mean(target > 0)),
    }


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"patch": "whole", "aligned_map": "softmax"},
        {"patch": "image_crop", "aligned_map": "normalized_self_information"},
        {"decision": "patch", "game": "minimax"},
    ],
    ids=["alp", "whole_softmax", "image_crop", "patch_minimax"],
)
def test_losses_equal_the_reference(fields):
    game = Game(replace(**fields))
    _, metrics = game.step(game.state, game.batch, RNG)
    for name, expected in expected_losses(game).items():
        assert float(metrics[name]) == pytest.approx(expected, rel=1e-6, abs=1e-6), name


@pytest.mark.parametrize("fields", [{}, {"game": "minimax", "decision": "patch"}])
def test_gradients_of_both_players_equal_finite_differences(fields):
    game = Game(replace(**fields), rates=(1.0, 1.0))  # Its players are shared with other tests.
    with jax.enable_x64(True):
        entry = jax.tree.map(
            lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x,
            game.state,
        )
        new, _ = game.step(entry, game.batch, RNG)

        def check(player: str, loss: str) -> None:
            params = getattr(entry, player).params
            gradient = jax.tree.map(lambda p, q: p - q, params, getattr(new, player).params)
            keys = jax.random.split(jax.random.key(1), len(jax.tree.leaves(params)))
            direction = jax.tree.unflatten(
                jax.tree.structure(params),
                [
                    jax.random.normal(k, x.shape, x.dtype)
                    for k, x in zip(keys, jax.tree.leaves(params), strict=True)
                ],
            )

            def loss_at(distance: float) -> float:
                moved = jax.tree.map(lambda p, d: p + distance * d, params, direction)
                player_state = getattr(entry, player).replace(params=moved)
                _, metrics = game.step(entry.replace(**{player: player_state}), game.batch, RNG)
                return float(metrics[loss])

            slope = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))
            numeric = (loss_at(1e-6) - loss_at(-1e-6)) / 2e-6
            assert float(slope) == pytest.approx(numeric, rel=1e-4)
            assert abs(numeric) > 1e-4

        check("segmenter", "loss/segmenter")
        check("discriminator", "loss/discriminator")


@pytest.mark.parametrize("game_kind", ["non_saturating", "minimax"])
def test_neither_players_update_touches_the_other(game_kind):
    objective = replace(game=game_kind)
    both, only_segmenter, only_discriminator = (
        Game(objective, rates=rates) for rates in ((0.1, 0.1), (0.1, 0.0), (0.0, 0.1))
    )
    new, _ = both.step(both.state, both.batch, RNG)
    assert not trees_equal(new.segmenter.params, both.state.segmenter.params)
    assert not trees_equal(new.discriminator.params, both.state.discriminator.params)

    new_segmenter, _ = only_segmenter.step(both.state, both.batch, RNG)
    assert trees_equal(new_segmenter.discriminator.params, both.state.discriminator.params)
    assert trees_equal(new_segmenter.segmenter.params, new.segmenter.params)

    new_discriminator, _ = only_discriminator.step(both.state, both.batch, RNG)
    assert trees_equal(new_discriminator.segmenter.params, both.state.segmenter.params)
    assert trees_equal(new_discriminator.discriminator.params, new.discriminator.params)


def test_source_images_get_no_adversarial_gradient_unless_minimax():
    # With labels all ignored the only gradient is the adversarial one.
    game = Game()
    batch = {**game.batch, "source_labels": np.full_like(game.batch["source_labels"], 255)}
    other = {**batch, "source_images": 255 - batch["source_images"]}
    new, metrics = game.step(game.state, batch, RNG)
    assert float(metrics["loss/cross_entropy"]) == 0.0
    assert trees_equal(new.segmenter.params, game.step(game.state, other, RNG)[0].segmenter.params)
    minimax = Game(replace(game="minimax"))
    new, _ = minimax.step(minimax.state, batch, RNG)
    new_other, _ = minimax.step(minimax.state, other, RNG)
    assert not trees_equal(new.segmenter.params, new_other.segmenter.params)


def test_zero_weight_leaves_the_source_only_update():
    adversarial = Game(replace(adversarial_weight=0.0))
    source_only = Game(replace(use_target=False, patch="whole"))
    new, _ = adversarial.step(adversarial.state, adversarial.batch, RNG)
    new_source_only, _ = source_only.step(source_only.state, source_only.batch, RNG)
    for a, b in zip(
        jax.tree.leaves(new.segmenter.params),
        jax.tree.leaves(new_source_only.segmenter.params),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_source_only_never_sees_a_target_image():
    game = Game(replace(use_target=False, patch="whole"), mode="running")
    assert game.state.discriminator is None
    with_target = {**game.batch, "target_images": np.zeros((2, 32, 48, 3), np.uint8)}
    new, metrics = game.step(game.state, game.batch, RNG)
    assert trees_equal(new, game.step(game.state, with_target, RNG)[0])
    assert not any("adversarial" in name or "discriminator" in name for name in metrics)


def test_aligning_nothing_is_source_only_but_for_the_statistics():
    nothing = Game(replace(patch="none"), mode="running")
    source_only = Game(replace(use_target=False), mode="running")
    aligned = Game(mode="running")
    assert nothing.state.discriminator is None
    new, metrics = nothing.step(nothing.state, nothing.batch, RNG)
    new_source_only, _ = source_only.step(source_only.state, source_only.batch, RNG)
    new_aligned, _ = aligned.step(aligned.state, aligned.batch, RNG)
    for found, expected in (
        (new.segmenter.params, new_source_only.segmenter.params),
        (new.segmenter.model_state, new_aligned.segmenter.model_state),
    ):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert not trees_equal(new.segmenter.model_state, new_source_only.segmenter.model_state)
    assert not any("adversarial" in name or "discriminator" in name for name in metrics)


def test_source_only_on_crops_needs_no_target():
    game = Game(replace(use_target=False, patch="image_crop"))
    batch = {name: game.batch[name] for name in ("source_images", "source_labels")}
    _, metrics = game.step(game.state, batch, RNG)
    whole = Game(replace(use_target=False, patch="whole"))
    _, whole_metrics = whole.step(whole.state, batch, RNG)
    assert metrics["loss/cross_entropy"] != whole_metrics["loss/cross_entropy"]


@pytest.mark.parametrize("domains", [("source", "target"), ("source",), ("target",), ()])
def test_running_statistics_follow_source_then_target(domains):
    game = Game(replace(batch_norm_update_domains=domains), mode="running")
    new, _ = game.step(game.state, game.batch, RNG)
    expected = game.state.segmenter.model_state
    for domain in domains:
        images = jnp.asarray(game.batch[f"{domain}_images"])
        _, expected = game.segmenter.apply(
            game.state.segmenter.params, expected, images, train=True
        )
    for a, b in zip(
        jax.tree.leaves(new.segmenter.model_state), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_patches_move_in_one_program_that_takes_over_the_state_and_repeats_its_bits():
    traces = []

    def counted(*args, **kwargs):
        traces.append(1)
        return steps.train_step(*args, **kwargs)

    game = Game()
    step = jax.jit(functools.partial(counted, **game.step.__wrapped__.keywords), donate_argnums=0)
    runs = []
    for _ in range(2):
        current = jax.tree.map(jnp.copy, game.state)
        seen = []
        for _ in range(3):
            current, metrics = step(current, game.batch, RNG)
            seen.append(float(metrics["loss/adversarial"]))
        runs.append(current)
    assert trees_equal(*runs)
    assert len(set(seen)) == 3
    memory = step.lower(game.state, game.batch, RNG).compile().memory_analysis()
    assert memory.alias_size_in_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(game.state))
    assert len(traces) == 1


def test_on_the_cpu_one_domain_is_held_at_a_time():
    config = tiny.get_config(pathlib.Path("unused"))
    with config.unlocked():
        config.model.backbone.depths, config.model.backbone.widths = (
            (4,),
            (16,),
        )  # Three blocks are one loop.
        config.model.backbone.strides, config.model.backbone.dilations = (1,), (1,)
    step, arguments = paper_step.describe(config)
    lowered = step.lower(*arguments)
    by_default, ours = (
        lowered.compile(options).memory_analysis().temp_size_in_bytes
        for options in (None, assembly.COMPILER_OPTIONS["cpu"])
    )
    assert ours < 0.9 * by_default


def test_both_players_share_what_the_discriminator_says_of_the_target():
    game = Game()
    discriminator, params = game.discriminator, game.state.discriminator.params

    def count_flop(fn):
        maps = jax.ShapeDtypeStruct((2, 16, 16, NUM_CLASSES), jnp.float32)
        return jax.jit(fn).lower(params["main"], maps, maps).compile().cost_analysis()["flops"]

    def play_segmenter(params, source, target):
        def fool(target):
            return losses.domain_cross_entropy(discriminator.apply(params, target), losses.SOURCE)

        return jax.grad(fool)(target)

    def play_discriminator(params, source, target):
        entry = state.DiscriminatorState({"main": params}, make_sgd(0.1).transform.init(params))
        return steps._update_discriminator(
            entry, {"main": (source, target)}, discriminator, make_sgd(0.1), ALP
        )

    def play_both(*arguments):
        return play_segmenter(*arguments), play_discriminator(*arguments)

    alone = count_flop(play_segmenter) + count_flop(play_discriminator)
    forward = count_flop(lambda params, _, target: discriminator.apply(params, target))
    assert alone - count_flop(play_both) == pytest.approx(forward, rel=0.01)


def test_a_map_too_small_for_the_discriminator_is_an_error():
    game = Game(replace(patch_size=(4, 4)), widths=(4, 4, 4))
    with pytest.raises(ValueError, match="gave no decision"):
        game.step(game.state, game.batch, RNG)
    game = Game(replace(patch_size=(4, 4), decision="patch"), widths=(4, 4, 4))
    with pytest.raises(ValueError, match="gave no decision"):
        game.step(game.state, game.batch, RNG)


def test_eval_step_counts_masked_images_not_at_all():
    game = Game()
    entry = game.state.segmenter
    labels = game.batch["source_labels"]
    outputs = predictor.eval_step(
        entry.params,
        entry.model_state,
        game.batch["source_images"],
        labels,
        np.array([True, False]),
        segmenter=game.segmenter,
        num_classes=NUM_CLASSES,
    )
    assert int(outputs["num_images"]) == 1
    assert int(outputs["confusion"].sum()) == np.sum(labels[0] != losses.IGNORE_LABEL)
    assert outputs["predictions"].shape == labels.shape
    expected = np.mean(outputs["entropy"][0])
    assert float(outputs["entropy_total"]) == pytest.approx(float(expected), rel=1e-5)
