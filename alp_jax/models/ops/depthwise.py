"""Computes depthwise 2-D convolutions in the form that is fast on the device.

Synopsis:

  outputs = convolve_depthwise(inputs, kernel, stride=1, padding=((2, 2), (2, 2)), dilation=1)

On the CPU, XLA's grouped convolution takes 4 to 290 times as long as the forms below, with
measurements in `benchmarks/convolution.py`. On other devices the convolution is XLA's.

- Forward, the products of all taps are summed, each tap's inputs shifted to their place.
- The gradient of the inputs is the same sum for the turned kernel, with zeros between the
  gradients of the outputs where the stride is above 1.
- The gradient of the kernel is summed over the rows of the outputs, separately for each of their
  columns, and over the columns last. XLA would compute a reduction over the whole map channel by
  channel, without vector instructions and with a distant read for each value.

Sums have single precision at least.
"""

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

# Rows of zeros (above, below) and columns of zeros (left, right).
Padding = tuple[tuple[int, int], tuple[int, int]]


def convolve_depthwise(
    inputs: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding, dilation: int
) -> jax.Array:
    """Convolves each channel with its own kernel: cross-correlation, as in PyTorch.

    Args:
      inputs: [B, H, W, C].
      kernel: [k, k, 1, C], of the same type.
      stride, dilation: pixels, equal on both axes.
      padding: ((above, below), (left, right)), pixels.
    Returns:
      [B, H', W', C], H' = (H + above + below - dilation (k - 1) - 1) // stride + 1.
    """
    return _convolve(inputs, kernel, stride, padding, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: Padding, dilation: int
) -> jax.Array:
    cpu = functools.partial(_convolve_by_taps, stride=stride, padding=padding, dilation=dilation)
    default = functools.partial(_convolve_by_xla, **cpu.keywords)
    return lax.platform_dependent(inputs, kernel, cpu=cpu, default=default)


def _forward(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: Padding, dilation: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(inputs, kernel, stride, padding, dilation), (inputs, kernel)


def _backward(
    stride: int,
    padding: Padding,
    dilation: int,
    residuals: tuple[jax.Array, jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    cpu = functools.partial(_gradients_by_taps, stride=stride, padding=padding, dilation=dilation)
    default = functools.partial(_gradients_by_xla, **cpu.keywords)
    return lax.platform_dependent(*residuals, gradient, cpu=cpu, default=default)


_convolve.defvjp(_forward, _backward)


def _convolve_by_xla(
    inputs: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding, dilation: int
) -> jax.Array:
    return lax.conv_general_dilated(
        inputs,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=inputs.shape[-1],
    )


def _gradients_by_xla(
    inputs: jax.Array,
    kernel: jax.Array,
    gradient: jax.Array,
    *,
    stride: int,
    padding: Padding,
    dilation: int,
) -> tuple[jax.Array, jax.Array]:
    convolve = functools.partial(
        _convolve_by_xla, stride=stride, padding=padding, dilation=dilation
    )
    _, transpose = jax.vjp(convolve, inputs, kernel)
    return cast(tuple[jax.Array, jax.Array], transpose(gradient))


def _convolve_by_taps(
    inputs: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding, dilation: int
) -> jax.Array:
    kernel_size = kernel.shape[0]
    reach = dilation * (kernel_size - 1)
    height, width = (
        (side + sum(pads) - reach - 1) // stride + 1
        for side, pads in zip(inputs.shape[1:3], padding, strict=True)
    )
    padded = _pad(inputs, padding)
    total: jax.Array | float = 0.0
    for row in range(kernel_size):
        for column in range(kernel_size):
            taken = padded[
                :,
                row * dilation : row * dilation + stride * (height - 1) + 1 : stride,
                column * dilation : column * dilation + stride * (width - 1) + 1 : stride,
            ]
            total += _precise(taken) * _precise(kernel[row, column])
    return cast(jax.Array, total).astype(inputs.dtype)


def _gradients_by_taps(
    inputs: jax.Array,
    kernel: jax.Array,
    gradient: jax.Array,
    *,
    stride: int,
    padding: Padding,
    dilation: int,
) -> tuple[jax.Array, jax.Array]:
    to_inputs = _input_gradient(inputs.shape[1:3], kernel, gradient, stride, padding, dilation)
    to_kernel = _kernel_gradient(inputs, kernel.shape[0], gradient, stride, padding, dilation)
    return to_inputs, to_kernel.astype(kernel.dtype)


def _input_gradient(
    sides: tuple[int, ...],
    kernel: jax.Array,
    gradient: jax.Array,
    stride: int,
    padding: Padding,
    dilation: int,
) -> jax.Array:
    """Convolves the gradient of the outputs, `stride` apart, with the turned kernel."""
    reach = dilation * (kernel.shape[0] - 1)
    apart = [(0, 0, 0), *[(0, 0, stride - 1)] * 2, (0, 0, 0)]
    spread = lax.pad(gradient, jnp.zeros((), gradient.dtype), apart)
    before = [reach - first for first, _ in padding]
    around = [
        (pad, side + reach - pad - held)
        for side, pad, held in zip(sides, before, spread.shape[1:3], strict=True)
    ]
    return _convolve_by_taps(
        spread,
        kernel[::-1, ::-1],
        stride=1,
        padding=(around[0], around[1]),
        dilation=dilation,
    )


def _kernel_gradient(
    inputs: jax.Array,
    kernel_size: int,
    gradient: jax.Array,
    stride: int,
    padding: Padding,
    dilation: int,
) -> jax.Array:
    """Computes [k, k, 1, C], at least in single precision."""
    batch_size, height, width, channels = gradient.shape
    padded = _pad(inputs, padding)
    rows_read = (1, dilation * (kernel_size - 1) + 1, *padded.shape[2:])

    def add_row(i: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        """Adds the products of one row of outputs, to [k, W', C] for each kernel column."""
        image, row = i // height, i % height
        of_row = lax.dynamic_slice(gradient, (image, row, 0, 0), (1, 1, width, channels))[0]
        read = lax.dynamic_slice(padded, (image, row * stride, 0, 0), rows_read)[0, ::dilation]
        columns = (slice(c * dilation, c * dilation + stride * (width - 1) + 1, stride)
                   for c in range(kernel_size))  # fmt: skip
        return tuple(
            total + _precise(read[:, taken]) * _precise(of_row)
            for total, taken in zip(sums, columns, strict=True)
        )

    zeros = jnp.zeros((kernel_size, width, channels), _precise(gradient).dtype)
    sums = lax.fori_loop(0, batch_size * height, add_row, (zeros,) * kernel_size)
    return jnp.stack([jnp.sum(total, 1) for total in sums], 1)[:, :, None]


def _pad(maps: jax.Array, padding: Padding) -> jax.Array:
    """Pads [B, H, W, C] with zeros; negative numbers take off instead."""
    zero = jnp.zeros((), maps.dtype)
    padded = lax.pad(maps, zero, [(0, 0, 0), *((*pads, 0) for pads in padding), (0, 0, 0)])
    # Without the barrier XLA would compute what precedes once for each tap.
    return lax.optimization_barrier(padded)


def _precise(numbers: jax.Array) -> jax.Array:
    return numbers.astype(jnp.promote_types(numbers.dtype, jnp.float32))
