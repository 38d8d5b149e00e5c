"""Terms of the compared methods against published code restated in PyTorch: values and gradients.

The sizes are such that all weights of the interpolation are multiples of 1/4, exact in any type.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from alp_jax.data.samples import Sample
from alp_jax.errors import UserError
from alp_jax.models.segmenter import Outputs
from alp_jax.objective.settings import term as new_term
from alp_jax.objective.types import Seen, Surroundings
from alp_jax.settings import kinds, schema
from tests import torch_terms
from tests.refusals import refusal

COARSE, SIZE, CLASSES, BATCH = (4, 5), (13, 17), 4, 3
SHARES = (0.5, 0.4, 0.08, 0.02)
FROM_TARGET = np.array([True, False, True])


def build(kind, **fields):
    """Builds a term as a configuration would."""
    block = new_term(kind, **fields)
    del block.kind
    cls = kinds.load("alp_jax.objective.terms", kind, "TERM")
    return dataclasses.replace(schema.build(cls, block), name=kind)


def make_sample():
    rng = np.random.default_rng(0)
    labels = rng.choice([*range(CLASSES), 255, 255], (BATCH, *SIZE)).astype(np.uint8)
    soft = rng.dirichlet(np.ones(CLASSES), (BATCH, *SIZE)) * (labels != 255)[..., None]
    images = np.zeros((BATCH, *SIZE, 3), np.uint8)
    return Sample(images, labels, None, soft, FROM_TARGET)


SAMPLE = make_sample()
LABELS = torch.from_numpy(SAMPLE.labels).long()
SOFT = torch.from_numpy(np.moveaxis(SAMPLE.soft_labels, -1, 1).copy())
LOGITS = 3 * np.random.default_rng(1).standard_normal((BATCH, *COARSE, CLASSES))

# kind, fields, loss of the restatement for logits [B, K, h, w].
CASES = [
    *(
        (
            "entropy",
            {"top_share": share, "exponent": exponent, "resolution": resolution},
            lambda x, share=share, exponent=exponent, resolution=resolution: torch_terms.entropy(
                x, SIZE, top_share=share, exponent=exponent, resolution=resolution
            ),
        )
        for share, exponent, resolution in [
            (1.0, 0.0, "images"),
            (0.3, 0.0, "images"),
            (1.0, 2.0, "logits"),
            (0.1, 1.5, "images"),
        ]
    ),
    (
        "class_ratio_prior",
        {"class_shares": SHARES, "mu": 0.5},
        lambda x: torch_terms.class_ratio_prior(x, SIZE, mu=0.5, class_shares=SHARES),
    ),
    *(
        (
            "model_regularizer",
            {"penalty": penalty},
            lambda x, penalty=penalty: torch_terms.model_regularizer(
                x, SIZE, LABELS, torch.from_numpy(FROM_TARGET), penalty=penalty
            ),
        )
        for penalty in ("kld_uniform", "negative_entropy", "l2")
    ),
    (
        "soft_cross_entropy",
        {},
        lambda x: torch_terms.soft_cross_entropy(x, SIZE, SOFT.to(x.dtype)),
    ),
    *(
        (
            "focal_cross_entropy",
            {"gamma": gamma},
            lambda x, gamma=gamma: torch_terms.focal_cross_entropy(x, SIZE, LABELS, gamma=gamma),
        )
        for gamma in (2.0, 1.0)
    ),
]


def see(logits, sample=SAMPLE, params=None):
    key = jax.random.key(0)
    return Seen("x", Outputs({"main": logits}, ()), sample, key, params, None, jnp.zeros((), int))


def compute(term, logits, sample=SAMPLE):
    """Computes the loss and its gradient with respect to the logits."""
    loss = jax.jit(jax.value_and_grad(lambda x: term.loss(see(x, sample)).loss))
    return jax.device_get(loss(logits))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("kind", "fields", "restated"), CASES)
def test_loss_and_gradient_are_those_of_published_code(kind, fields, restated, dtype):
    # Large logits, too: some pixels are as good as certain.
    for scale in (1, 20):
        logits = (scale * LOGITS).astype(dtype)
        with jax.enable_x64(dtype == np.float64):
            value, gradient = compute(build(kind, **fields), logits)
        inputs = torch.from_numpy(np.moveaxis(logits, -1, 1).copy()).requires_grad_()
        expected = restated(inputs)
        expected.backward()
        theirs = np.moveaxis(inputs.grad.numpy(), 1, -1)
        bound = 1e-10 if dtype == np.float64 else 1e-5
        assert value.dtype == dtype
        assert abs(value - expected.item()) <= bound * max(1, abs(expected.item()))
        assert np.abs(gradient - theirs).max() <= bound * max(1, np.abs(theirs).max())


def test_entropy_by_hand_and_its_range():
    term = build("entropy")
    value, _ = compute(term, np.zeros((BATCH, *COARSE, CLASSES), np.float32))
    assert value == pytest.approx(1.0, rel=1e-6)
    # p = (1/2, 1/2, 0, 0): log 2 / log 4.
    certain = np.full((BATCH, *COARSE, CLASSES), -1e4, np.float32)
    certain[..., :2] = 0
    assert compute(term, certain)[0] == pytest.approx(0.5, rel=1e-6)
    value, gradient = compute(build("entropy", exponent=2.0), certain * np.arange(4))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_the_share_of_highest_entropy_takes_all_of_equal_pixels():
    """Each row of the logits has another entropy, the first the highest."""
    levels = np.arange(4.0)[None, :, None, None] * np.ones((1, *COARSE, 2))
    logits = jnp.asarray(levels * [1, -1], jnp.float32)

    def average(logits, share=1.0):
        term = build("entropy", resolution="logits", top_share=share)
        return float(term.loss(see(logits)).loss)

    for share, rows in ((0.01, 1), (0.25, 1), (0.3, 2), (0.5, 2), (0.99, 4)):
        assert average(logits, share) == pytest.approx(average(logits[:, :rows]), rel=1e-6)


def test_class_shares_are_counted_once_and_kept():
    term = build("class_ratio_prior")
    filled = term.complete(lambda: np.array([6, 2, 0, 0]))
    assert filled.class_shares == (0.75, 0.25, 0.0, 0.0)
    assert filled.complete(lambda: pytest.fail("It was counted again.")) is filled
    # Uniform predictions of 1/4 lack 0.5 * 0.75 - 0.25 of the first class.
    value, _ = compute(filled, np.zeros((BATCH, *COARSE, CLASSES), np.float32))
    assert value == pytest.approx(0.125, rel=1e-6)
    with pytest.raises(
        UserError, match=r"class_shares is \[\]: expected the share of each of the 4"
    ):
        compute(term, LOGITS)


def test_regularised_pixels_are_those_with_a_label_in_target_images():
    term = build("model_regularizer")
    everywhere, _ = compute(term, LOGITS, SAMPLE._replace(from_target=None))
    alone, _ = compute(term, LOGITS[FROM_TARGET], jax.tree.map(lambda x: x[FROM_TARGET], SAMPLE))
    assert compute(term, LOGITS)[0] == pytest.approx(alone, rel=1e-6)
    assert everywhere != pytest.approx(alone, rel=1e-3)
    value, gradient = compute(term, LOGITS, SAMPLE._replace(from_target=np.zeros(BATCH, bool)))
    assert value == 0
    assert not gradient.any()


def test_soft_labels_that_are_one_hot_give_the_cross_entropy():
    one_hot = np.eye(CLASSES)[np.minimum(SAMPLE.labels, 3)] * (SAMPLE.labels != 255)[..., None]
    value, _ = compute(build("soft_cross_entropy"), LOGITS, SAMPLE._replace(soft_labels=one_hot))
    assert value == pytest.approx(compute(build("cross_entropy"), LOGITS)[0], rel=1e-6)
    value, gradient = compute(
        build("soft_cross_entropy"), LOGITS, SAMPLE._replace(soft_labels=0 * one_hot)
    )
    assert value == 0
    assert not gradient.any()
    for missing in (None, one_hot[..., :3]):
        message = refusal(
            lambda missing=missing: compute(
                build("soft_cross_entropy"), LOGITS, SAMPLE._replace(soft_labels=missing)
            )
        )
        assert message == (
            "config.terms.soft_cross_entropy.view is 'self_training': expected a view whose "
            "samples have soft labels of the shape [3, 13, 17, 4]."
        )


def test_labels_that_are_no_class_make_the_focal_loss_nan_and_ignored_ones_do_not():
    term = build("focal_cross_entropy")
    labels = np.full_like(SAMPLE.labels, 255)
    value, gradient = compute(term, 1e4 * LOGITS, SAMPLE._replace(labels=labels))
    assert value == 0
    assert not gradient.any()
    labels[0, 0, 0] = CLASSES
    assert np.isnan(compute(term, LOGITS, SAMPLE._replace(labels=labels))[0])
    _, gradient = compute(term, (1e4 * LOGITS).astype(np.float32))
    assert np.isfinite(gradient).all()


# Weight cosine -----------------------------------------------------------------------------------


def draw_decoder(rng, dtype):
    names = ("branch_1", "branch_2")
    return {
        name: {"kernel": rng.standard_normal((3, 3, 4, 5)), "bias": rng.standard_normal(5)}
        for name in names
    } | {"scale": rng.standard_normal(2).astype(dtype)}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_weight_cosine_is_clans_in_any_order_of_tensors(dtype):
    rng = np.random.default_rng(0)
    params = {name: draw_decoder(rng, dtype) for name in ("classifier", "second_classifier")}
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    term = build("weight_cosine")
    with jax.enable_x64(dtype == np.float64):
        loss = jax.value_and_grad(lambda held: term.loss(see(None, params=held)).loss)
        value, gradient = jax.device_get(loss(params))
    leaves = {name: jax.tree.leaves(tree) for name, tree in params.items()}
    tensors = {
        name: [torch.from_numpy(leaf).requires_grad_() for leaf in found]
        for name, found in leaves.items()
    }
    first, second = tensors.values()
    expected = torch_terms.weight_cosine(first, second)
    turned = torch_terms.weight_cosine(first[::-1], second[::-1])
    expected.backward()
    bound = 1e-10 if dtype == np.float64 else 1e-5
    assert abs(value - expected.item()) <= bound
    assert abs(value - turned.item()) <= bound
    for name, found in tensors.items():
        for ours, theirs in zip(jax.tree.leaves(gradient[name]), found, strict=True):
            assert np.abs(ours - theirs.grad.numpy()).max() <= bound
    same = dict.fromkeys(params, params["classifier"])
    assert term.loss(see(None, params=same)).loss == pytest.approx(2, rel=1e-6)


def test_heads_of_another_structure_or_without_parameters_are_refused():
    rng = np.random.default_rng(0)
    first, second = (draw_decoder(rng, np.float32) for _ in range(2))
    second["branch_2"]["kernel"] = second["branch_2"]["kernel"][..., :4]
    term = build("weight_cosine")
    for params in ({"second_classifier": second}, {}):
        seen = see(None, params={"classifier": first} | params)
        assert refusal(functools.partial(term.loss, seen)) == (
            "config.terms.weight_cosine.other_head is 'second': expected a head whose parameters "
            "have the shapes of those of main: the same decoder on the same stage."
        )


@pytest.mark.parametrize("kind", ["weight_cosine", "discrepancy"])
def test_one_head_twice_is_refused(kind):
    surroundings = Surroundings({"source": SIZE}, ("main", "second"), frozenset({"source"}))
    twice = build(kind, other_head="main")
    assert refusal(lambda: twice.check_fit("config.terms.w", surroundings)) == (
        "config.terms.w.other_head is 'main': expected another head than config.terms.w.head: "
        "second."
    )
    assert refusal(lambda: build(kind).check_fit("config.terms.w", surroundings)) is None
