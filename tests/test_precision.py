"""bfloat16 activations against float32: bounds of one step, and what stays in float32.

A bfloat16 number has 8 significant bits: each rounding errs by at most 2^-9, 0.2 %.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.data.samples import Batch, Sample
from alp_jax.objective import step
from alp_jax.objective.types import Seen
from alp_jax.run import assembly
from alp_jax.workdir.settings import build_settings
from configs import default
from tests import tiny

# Largest relative differences of one step of the tiny network.
LOSS_BOUND, STATISTICS_BOUND, GRADIENT_BOUND = 0.01, 0.01, 0.05


def create(dtype: str, mode: str):
    config = tiny.get_config(pathlib.Path("unused"))
    with config.unlocked():
        config.model.backbone.batch_norm_mode = mode
        config.model.activation_dtype = dtype
        default.set_everywhere(config.terms, activation_dtype=dtype)
        config.terms.adversarial.weight = 0.1
        config.optimizer.gradient_clip_norm = 0.0
        config.optimizer.weight_decay = 0.0
    setup = assembly.create_setup(build_settings(config))
    return setup, assembly.create_train_state(setup, jax.random.key(0))


def make_batch() -> Batch:
    examples = [tiny.make_example(seed) for seed in range(4)]
    images = np.stack([example["image"] for example in examples])
    labels = np.random.default_rng(0).integers(0, 16, (2, tiny.HEIGHT, tiny.WIDTH), np.uint8)
    return {"source": Sample(images[:2], labels), "target": Sample(images[2:])}


def take_step(dtype: str, mode: str):
    setup, entry = create(dtype, mode)
    train_step = jax.jit(functools.partial(step.train_step, setup=setup))
    state, metrics = train_step(entry, make_batch(), jax.random.key(1))
    return entry, state, metrics


def relative(ours, theirs) -> float:
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize("mode", ["running", "batch"])
def test_a_step_in_bfloat16_is_near_that_in_float32(mode):
    entry, precise, precise_metrics = take_step("float32", mode)
    same_entry, rounded, metrics = take_step("bfloat16", mode)
    for ours, theirs in zip(jax.tree.leaves(same_entry), jax.tree.leaves(entry), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert jax.tree.map(lambda leaf: leaf.dtype, rounded) == jax.tree.map(
        lambda leaf: leaf.dtype, precise
    )
    for name, value in metrics.items():
        assert value.dtype == jnp.float32
        if name.startswith("loss/"):
            assert float(value) == pytest.approx(float(precise_metrics[name]), rel=LOSS_BOUND)
    assert float(metrics["loss/cross_entropy"]) != float(precise_metrics["loss/cross_entropy"])

    def moved(state, player: str) -> np.ndarray:
        after, before = (getattr(s, player).params for s in (state, entry))
        return np.concatenate(
            [np.ravel(a - b) for a, b in zip(*map(jax.tree.leaves, (after, before)), strict=True)]
        )

    # The first step of SGD is along the gradient.
    assert relative(moved(rounded, "segmenter"), moved(precise, "segmenter")) < GRADIENT_BOUND
    for ours, theirs in zip(
        jax.tree.leaves(rounded.segmenter.model_state),
        jax.tree.leaves(precise.segmenter.model_state),
        strict=True,
    ):
        assert relative(ours, theirs) < STATISTICS_BOUND


def test_products_are_in_bfloat16_and_losses_are_not():
    setup, entry = create("bfloat16", "running")
    train_step = functools.partial(step.train_step, setup=setup)
    text = str(jax.make_jaxpr(train_step)(entry, make_batch(), jax.random.key(1)))
    products = [line for line in text.splitlines() if "= conv_general_dilated[" in line]
    assert len(products) > 20
    assert all(":bf16[" in line for line in products), products
    softmax = [line for line in text.splitlines() if ("= exp " in line or "= log " in line)]
    assert softmax
    assert not any("bf16" in line for line in softmax)


def test_the_classifier_and_the_discriminator_give_float32():
    setup, entry = create("bfloat16", "running")
    target, segmenter = make_batch()["target"], entry.segmenter
    (alignment,) = setup.objective.owners
    own = entry.discriminator.params[alignment.key]

    def compute():
        outputs, model_state = setup.segmenter.apply(
            segmenter.params, segmenter.model_state, target.images, train=True
        )
        key = jax.random.key(0)
        seen = Seen("target", outputs, target, key, segmenter.params, own, entry.step)
        found = alignment.loss(seen)
        own_loss, _ = alignment.own_loss(own, {"source": found.kept, "target": found.kept})
        return outputs.logits["main"], model_state, (found.loss, found.kept, own_loss)

    logits, model_state, losses = jax.eval_shape(compute)
    assert logits.dtype == jnp.float32
    for leaves in (model_state, losses):
        assert {leaf.dtype for leaf in jax.tree.leaves(leaves)} == {jnp.dtype(jnp.float32)}
