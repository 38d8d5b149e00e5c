"""Every form of a convolution against PyTorch: values and both gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from alp_jax.models.ops import convolution
from alp_jax.models.ops.convolution import convolve
from alp_jax.models.ops.depthwise import convolve_depthwise

# Channels and features of each form, kernel size, stride, padding, dilation.
CASES = {
    "product": (24, 16, 1, 1, 0, 1),
    "product, strided": (24, 16, 1, 2, 0, 1),
    "to few": (96, 5, 3, 1, 6, 6),
    "to few, no padding": (96, 5, 3, 1, 0, 2),
    "to few, padded beyond the kernel": (96, 5, 3, 1, 4, 1),
    "winograd": (64, 72, 3, 1, 2, 2),
    "winograd, no padding": (64, 64, 3, 1, 0, 2),
    "wide": (32, 40, 3, 1, 2, 2),
    "wide, strided": (32, 40, 3, 2, 1, 1),
    "wide, even kernel": (40, 32, 4, 2, 1, 1),
    "wide, no padding": (32, 32, 3, 1, 0, 2),
    "plain": (16, 24, 3, 1, 2, 2),
    "plain, strided": (3, 16, 7, 2, 3, 1),
    "padded 1x1": (16, 8, 1, 1, 1, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_pytorch(case):
    channels, features, kernel_size, stride, padding, dilation = CASES[case]
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 13, 16, channels)).astype(np.float32)
    kernel = rng.normal(size=(kernel_size, kernel_size, channels, features)).astype(np.float32)
    settings = {"stride": stride, "padding": padding, "dilation": dilation}

    their_images = torch.from_numpy(images).permute(0, 3, 1, 2).double().requires_grad_()
    their_kernel = torch.from_numpy(kernel).permute(3, 2, 0, 1).double().requires_grad_()
    theirs = torch.nn.functional.conv2d(their_images, their_kernel, **settings)
    weights = rng.normal(size=theirs.permute(0, 2, 3, 1).shape).astype(np.float32)
    (theirs.permute(0, 2, 3, 1) * torch.from_numpy(weights)).sum().backward()

    @jax.jit
    def run(images, kernel):
        outputs, transpose = jax.vjp(lambda *both: convolve(*both, **settings), images, kernel)
        return outputs, *transpose(jnp.asarray(weights))

    ours, our_images, our_kernel = run(images, kernel)
    assert their_images.grad is not None
    assert their_kernel.grad is not None
    for actual, expected in (
        (ours, theirs.detach().permute(0, 2, 3, 1)),
        (our_images, their_images.grad.permute(0, 2, 3, 1)),
        (our_kernel, their_kernel.grad.permute(2, 3, 1, 0)),
    ):
        scale = float(expected.abs().max())
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6 * scale)


# Kernel size, stride, dilation, padding ((above, below), (left, right)), height and width.
DEPTHWISE = {
    "3x3": (3, 1, 1, ((1, 1), (1, 1)), (9, 12)),
    "3x3, strided, even and odd size": (3, 2, 1, ((0, 1), (1, 1)), (12, 13)),
    "5x5, strided, even and odd size": (5, 2, 1, ((2, 2), (1, 2)), (13, 10)),
    "5x5, dilated beyond the map": (5, 1, 4, ((8, 8), (8, 8)), (7, 9)),
    "3x3, dilated, no padding": (3, 1, 2, ((0, 0), (0, 0)), (9, 8)),
    "3x3, strided and dilated": (3, 2, 2, ((2, 2), (2, 1)), (10, 11)),
    "padded beyond the kernel": (3, 1, 1, ((4, 3), (0, 5)), (6, 5)),
    "rows and columns that no tap reads": (3, 3, 1, ((0, 0), (0, 0)), (11, 10)),
}


@pytest.mark.parametrize("case", DEPTHWISE)
def test_depthwise_equals_pytorch(case):
    kernel_size, stride, dilation, padding, size = DEPTHWISE[case]
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, *size, 6)).astype(np.float32)
    kernel = rng.normal(size=(kernel_size, kernel_size, 1, 6)).astype(np.float32)
    their_images = torch.from_numpy(images).permute(0, 3, 1, 2).double().requires_grad_()
    their_kernel = torch.from_numpy(kernel).permute(3, 2, 0, 1).double().requires_grad_()
    padded = torch.nn.functional.pad(their_images, (*padding[1], *padding[0]))
    theirs = torch.nn.functional.conv2d(
        padded, their_kernel, stride=stride, dilation=dilation, groups=6
    ).permute(0, 2, 3, 1)
    weights = rng.normal(size=theirs.shape).astype(np.float32)
    (theirs * torch.from_numpy(weights)).sum().backward()

    @jax.jit
    def run(images, kernel):
        settings = {"stride": stride, "padding": padding, "dilation": dilation}
        outputs, transpose = jax.vjp(
            lambda *both: convolve_depthwise(*both, **settings), images, kernel
        )
        return outputs, *transpose(jnp.asarray(weights))

    ours, our_images, our_kernel = run(images, kernel)
    assert their_images.grad is not None
    assert their_kernel.grad is not None
    for actual, expected in (
        (ours, theirs.detach()),
        (our_images, their_images.grad.permute(0, 2, 3, 1)),
        (our_kernel, their_kernel.grad.permute(2, 3, 1, 0)),
    ):
        np.testing.assert_allclose(
            actual, expected, rtol=0, atol=2e-6 * float(expected.abs().max())
        )


def test_depthwise_in_half_precision_sums_in_single():
    """A sum in bfloat16 would stop growing at 256."""
    ones = jnp.ones((1, 40, 50, 2), jnp.bfloat16)
    kernel = jnp.ones((3, 3, 1, 2), jnp.bfloat16)
    settings = {"stride": 1, "padding": ((0, 0), (0, 0)), "dilation": 1}
    outputs, transpose = jax.vjp(lambda *both: convolve_depthwise(*both, **settings), ones, kernel)
    to_inputs, to_kernel = transpose(outputs)
    assert {outputs.dtype, to_inputs.dtype, to_kernel.dtype} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_array_equal(outputs.astype(float), 9)
    np.testing.assert_allclose(to_kernel.astype(float), 9 * 38 * 48, rtol=2**-8)


@pytest.mark.parametrize(("platform", "grouped"), [("cpu", 0), ("cuda", 3)])
def test_depthwise_is_a_grouped_convolution_on_other_devices(platform, grouped):
    """Forward and both gradients; on the CPU, XLA's takes up to 290 times as long."""
    images, kernel = jnp.zeros((1, 12, 16, 8)), jnp.zeros((3, 3, 1, 8))
    settings = {"stride": 1, "padding": ((1, 1), (1, 1)), "dilation": 1}

    def differentiate(images, kernel):
        outputs, transpose = jax.vjp(
            lambda *both: convolve_depthwise(*both, **settings), images, kernel
        )
        return outputs, transpose(outputs)

    program = jax.jit(differentiate).trace(images, kernel).lower(lowering_platforms=(platform,))
    assert program.as_text().count("stablehlo.convolution(") == grouped


@pytest.mark.parametrize(
    ("kernel_size", "padding", "dilation"), [(3, 2, 2), (3, 4, 4), (3, 0, 2), (5, 3, 3), (3, 7, 5)]
)
def test_the_gradient_by_phases_is_that_of_the_dilated_kernel(kernel_size, padding, dilation):
    """What NVIDIA's GPUs compute."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(2, 5, 13, 16)))
    kernel = torch.zeros(4, 5, kernel_size, kernel_size, dtype=torch.float64, requires_grad=True)
    outputs = torch.nn.functional.conv2d(images, kernel, padding=padding, dilation=dilation)
    gradient = torch.from_numpy(rng.normal(size=outputs.shape))
    outputs.backward(gradient)
    inputs, gradient = (
        jnp.asarray(maps.permute(0, 2, 3, 1).numpy(), jnp.float32) for maps in (images, gradient)
    )
    ours = convolution._gradient_by_phases(
        inputs,
        gradient,
        kernel_shape=(kernel_size, kernel_size, 5, 4),
        padding=padding,
        dilation=dilation,
    )
    expected = kernel.grad.permute(2, 3, 1, 0).numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize(("platform", "stride"), [("cuda", 1), ("tpu", 2)])
def test_strided_windows_of_the_whole_map_are_not_for_gpus(platform, stride):
    """That is how cuDNN computes the gradient of a dilated kernel: without tensor cores."""
    kernel = jnp.zeros((3, 3, 32, 32))
    images = jnp.zeros((1, 12, 16, 32))

    def differentiate(gradient):
        return jax.vjp(lambda k: convolve(images, k, padding=2, dilation=2), kernel)[1](gradient)

    program = jax.jit(differentiate).trace(images).lower(lowering_platforms=(platform,)).as_text()
    (line,) = [line for line in program.splitlines() if "stablehlo.convolution" in line]
    assert f"stride = [{stride}, {stride}]" in line
