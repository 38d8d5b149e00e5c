import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.objective import losses
from tests import reference


def test_cross_entropy_by_hand():
    # 2x2 pixels, 2 classes. p(label) = 1/2, 3/4, 1/4, and one pixel ignored:
    # ln 2 + ln 4/3 + ln 4 = 0.693147 + 0.287682 + 1.386294 = 2.367124 over 3 pixels.
    logits = jnp.log(jnp.array([[[1.0, 1.0], [3.0, 1.0]], [[3.0, 1.0], [1.0, 9.0]]]))
    labels = jnp.array([[0, 0], [1, 255]])
    total, count = losses.cross_entropy(logits[None], labels[None])
    assert float(total) == pytest.approx(2.3671236, rel=1e-6)
    assert int(count) == 3


def test_cross_entropy_equals_reference():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 4, 5, 19)) * 3
    labels = rng.choice([*range(19), 255], (2, 4, 5))
    total, count = losses.cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
    expected_total, expected_count = reference.cross_entropy(logits, labels)
    assert float(total) / int(count) == pytest.approx(expected_total / expected_count, abs=1e-6)
    assert int(count) == expected_count


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_cross_entropy_limits(dtype):
    labels = np.array([[0, 18, 255]], dtype)
    perfect = 100.0 * jax.nn.one_hot(jnp.array([[0, 18, 3]]), 19)
    assert float(losses.cross_entropy(perfect, jnp.asarray(labels))[0]) == pytest.approx(
        0, abs=1e-6
    )
    uniform_total, count = losses.cross_entropy(jnp.zeros((1, 3, 19)), jnp.asarray(labels))
    assert float(uniform_total) == pytest.approx(2 * np.log(19), rel=1e-6)
    assert int(count) == 2


def test_nothing_labelled_gives_zero_loss_and_zero_gradient():
    labels = jnp.full((1, 2, 2), 255)

    def mean_loss(logits):
        total, count = losses.cross_entropy(logits, labels)
        return total / jnp.maximum(count, 1)

    loss, gradient = jax.value_and_grad(mean_loss)(jnp.ones((1, 2, 2, 3)))
    assert float(loss) == 0
    assert np.array_equal(gradient, np.zeros((1, 2, 2, 3)))


def test_cross_entropy_gradient_equals_finite_differences():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 3, 4)), rng.choice([0, 1, 2, 3, 255], (2, 3))
    gradient = np.asarray(
        jax.grad(lambda x: losses.cross_entropy(x, jnp.asarray(labels))[0])(jnp.asarray(logits))
    )
    for position in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[position] = 1e-6
        up = reference.cross_entropy(logits + step, labels)[0]
        down = reference.cross_entropy(logits - step, labels)[0]
        assert gradient[position] == pytest.approx((up - down) / 2e-6, abs=1e-5)


def test_cross_entropy_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 4\) do not match labels \(1, 2, 4\)"):
        losses.cross_entropy(jnp.zeros((1, 2, 3, 4)), jnp.zeros((1, 2, 4), jnp.int32))


def test_domain_cross_entropy_by_hand():
    # sigmoid(0) = 1/2; sigmoid(ln 3) = 3/4. Target: (ln 2 + ln 4/3) / 2; source: (ln 2 + ln 4) / 2.
    logits = jnp.array([0.0, jnp.log(3.0)])
    target = losses.domain_cross_entropy(logits, losses.TARGET_LABEL)
    source = losses.domain_cross_entropy(logits, losses.SOURCE_LABEL)
    assert float(target) == pytest.approx((0.6931472 + 0.2876821) / 2, rel=1e-6)
    assert float(source) == pytest.approx((0.6931472 + 1.3862944) / 2, rel=1e-6)
    assert float(losses.domain_accuracy(logits, losses.TARGET_LABEL)) == 0.5
    assert float(losses.domain_accuracy(logits, losses.SOURCE_LABEL)) == 0.5


def test_domain_cross_entropy_equals_reference_and_finite_differences():
    logits = np.random.default_rng(0).normal(size=(2, 3, 3, 1)) * 2
    for domain in (losses.SOURCE_LABEL, losses.TARGET_LABEL):
        value, gradient = jax.value_and_grad(losses.domain_cross_entropy)(
            jnp.asarray(logits), domain
        )
        gradient = np.asarray(gradient)
        assert float(value) == pytest.approx(
            reference.binary_cross_entropy(logits, domain).mean(), abs=1e-6
        )
        for position in np.ndindex(logits.shape):
            step = np.zeros_like(logits)
            step[position] = 1e-6
            up = reference.binary_cross_entropy(logits + step, domain).mean()
            down = reference.binary_cross_entropy(logits - step, domain).mean()
            assert gradient[position] == pytest.approx((up - down) / 2e-6, abs=1e-5)


def test_no_decision_is_an_error_and_not_a_nan():
    with pytest.raises(ValueError, match="gave no decision"):
        losses.domain_cross_entropy(jnp.zeros((1, 0, 0, 1)), losses.SOURCE_LABEL)
