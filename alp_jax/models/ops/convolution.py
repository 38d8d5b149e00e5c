"""Computes 2-D convolutions in the form that is fast on the device.

Synopsis:

  outputs = convolve(inputs, kernel, stride=1, padding=2, dilation=2)

The forms, with measurements in `benchmarks/convolution.py`:

- A 1x1 convolution is a matrix product. XLA on the CPU runs it about twice as fast as a
  convolution; elsewhere both take the same time.
- With few output channels (2048 -> 19), one matrix product computes all kernel taps and shifted
  maps are summed; 19 channels would leave a matrix unit idle.
- On the CPU, a 3x3 convolution of many channels with stride 1 uses Winograd's algorithm
  (`alp_jax.models.ops.winograd`) forward and for both gradients: 4/9 of the multiplications.
- On the CPU, the kernel's gradient of another wide convolution is one product for each tap. XLA
  would compute a convolution whose window is the whole map, at a fifth of a product's rate, and at
  a hundredth inside a loop (`alp_jax.models.blocks`).
- On NVIDIA's GPUs, a dilated kernel's gradient is an undilated one per phase (every `dilation`-th
  row and column). XLA would compute a convolution whose window is the whole map, for which cuDNN
  leaves the tensor cores idle; this took half of a step.

Everything else is XLA's convolution.
"""

import functools
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

from alp_jax.models.ops import winograd

_LAYOUT = ("NHWC", "HWIO", "NHWC")
# With fewer input or output channels, XLA's convolution is as fast as products on the CPU.
_WIDE = 32
# With fewer input or output channels, Winograd's transforms cost as much as its products save.
_MIN_WINOGRAD = 64
# Fewer tiles of outputs in a batch are not worth the transforms of the kernel.
_MIN_TILES = 32
# Output channels are few if there are this many input channels for each.
_FEW = 16


def convolve(
    inputs: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0, dilation: int = 1
) -> jax.Array:
    """Convolves as PyTorch does: cross-correlation, `padding` zeros on every side.

    Args:
      inputs: [B, H, W, C].
      kernel: [k, k, C, features], of the same type.
      stride, padding, dilation: pixels, equal on both axes.
    Returns:
      [B, H', W', features], H' = (H + 2 padding - dilation (k - 1) - 1) // stride + 1.
    """
    kernel_size, _, channels, features = kernel.shape
    if kernel_size == 1 and padding == 0:
        return _multiply(inputs[:, ::stride, ::stride], kernel)
    if stride == 1 and features * _FEW < channels:
        return _convolve_to_few(inputs, kernel, padding, dilation)
    if min(channels, features) >= _WIDE:
        return _convolve_wide(inputs, kernel, stride, padding, dilation)
    return _convolve(inputs, kernel, stride, padding, dilation)


@jax.custom_vjp
def _multiply(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies each pixel: [B, H, W, C] and [1, 1, C, D] -> [B, H, W, D].

    Takes the whole kernel: a loop over blocks would store a copy of a slice for the gradient.
    """
    return _multiply_pixels(inputs, kernel, 0)


def _multiply_pixels(inputs: jax.Array, kernel: jax.Array, axis: int) -> jax.Array:
    return lax.dot_general(inputs, kernel[0, 0], (((3,), (axis,)), ((), ())))


def _multiply_forward(
    inputs: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _multiply(inputs, kernel), (inputs, kernel)


def _multiply_backward(
    residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    inputs, kernel = residuals
    to_inputs = _multiply_pixels(gradient, kernel, 1)
    return to_inputs, winograd.correlate(inputs, gradient)[None, None]


_multiply.defvjp(_multiply_forward, _multiply_backward)


def _convolve(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: int, dilation: int
) -> jax.Array:
    return lax.conv_general_dilated(
        inputs,
        kernel,
        window_strides=(stride, stride),
        padding=[(padding, padding)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=_LAYOUT,
    )


def _convolve_to_few(
    inputs: jax.Array, kernel: jax.Array, padding: int, dilation: int
) -> jax.Array:
    """Computes all taps by one product, and sums their maps, each shifted to its place."""
    kernel_size, _, channels, _ = kernel.shape
    of_all_taps = kernel.transpose(2, 0, 1, 3).reshape(1, 1, channels, -1)
    maps = jnp.split(_multiply(inputs, of_all_taps), kernel_size**2, axis=-1)
    height, width = (
        side + 2 * padding - dilation * (kernel_size - 1) for side in inputs.shape[1:3]
    )
    shifted = (
        _pad(taken, padding)[:, row : row + height, column : column + width]
        for taken, (row, column) in zip(maps, _taps(kernel_size, dilation), strict=True)
    )
    return functools.reduce(jnp.add, shifted)


def _pad(maps: jax.Array, padding: int) -> jax.Array:
    return jnp.pad(maps, [(0, 0), (padding, padding), (padding, padding), (0, 0)])


def _taps(kernel_size: int, dilation: int) -> list[tuple[int, int]]:
    """Lists the (row, column) that each tap reads in a padded map for output (0, 0)."""
    places = range(0, kernel_size * dilation, dilation)
    return [(row, column) for row in places for column in places]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve_wide(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: int, dilation: int
) -> jax.Array:
    if not _suits_winograd(inputs, kernel, stride, padding, dilation):
        return _convolve(inputs, kernel, stride, padding, dilation)
    return lax.platform_dependent(
        inputs,
        kernel,
        cpu=functools.partial(winograd.convolve, padding=padding, dilation=dilation),
        default=functools.partial(_convolve, stride=stride, padding=padding, dilation=dilation),
    )


def _suits_winograd(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: int, dilation: int
) -> bool:
    """Returns whether Winograd's algorithm applies and is faster.

    It does not apply in half precision, in which its transforms would round.
    """
    kernel_size, _, *widths = kernel.shape
    if kernel_size != 3 or stride != 1 or min(widths) < _MIN_WINOGRAD or inputs.dtype.itemsize < 4:
        return False
    height, width = (side + 2 * (padding - dilation) for side in inputs.shape[1:3])
    tiles = winograd.count_tiles(height, width, dilation)
    # Tiles of a large dilation may reach far beyond a small map.
    return inputs.shape[0] * tiles >= _MIN_TILES and 4 * tiles < 1.5 * height * width


def _wide_forward(
    inputs: jax.Array, kernel: jax.Array, stride: int, padding: int, dilation: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve_wide(inputs, kernel, stride, padding, dilation), (inputs, kernel)


def _wide_backward(
    stride: int,
    padding: int,
    dilation: int,
    residuals: tuple[jax.Array, jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    inputs, kernel = residuals
    to_inputs = _input_gradient(inputs, kernel, gradient, stride, padding, dilation)
    default = cuda = functools.partial(
        _gradient_by_xla,
        kernel_shape=kernel.shape,
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    cpu = functools.partial(_gradient_by_taps, **default.keywords)
    if _suits_winograd(inputs, kernel, stride, padding, dilation):
        cpu = functools.partial(winograd.kernel_gradient, padding=padding, dilation=dilation)
    if dilation > 1 and stride == 1:
        cuda = functools.partial(
            _gradient_by_phases, kernel_shape=kernel.shape, padding=padding, dilation=dilation
        )
    to_kernel = lax.platform_dependent(inputs, gradient, cpu=cpu, cuda=cuda, default=default)
    return to_inputs, to_kernel


def _gradient_by_xla(
    inputs: jax.Array,
    gradient: jax.Array,
    *,
    kernel_shape: tuple[int, ...],
    stride: int,
    padding: int,
    dilation: int,
) -> jax.Array:
    kernel = jax.ShapeDtypeStruct(kernel_shape, inputs.dtype)
    return _transpose(
        lambda primal: _convolve(inputs, primal, stride, padding, dilation), kernel, gradient
    )


def _gradient_by_taps(
    inputs: jax.Array,
    gradient: jax.Array,
    *,
    kernel_shape: tuple[int, ...],
    stride: int,
    padding: int,
    dilation: int,
) -> jax.Array:
    """Computes each tap's gradient as one product of the inputs it read and output gradients."""
    _, height, width, _ = gradient.shape
    padded = _pad(inputs, padding)
    products = [
        winograd.correlate(
            padded[
                :,
                row : row + stride * (height - 1) + 1 : stride,
                column : column + stride * (width - 1) + 1 : stride,
            ],
            gradient,
        )
        for row, column in _taps(kernel_shape[0], dilation)
    ]
    return jnp.stack(products).reshape(kernel_shape)


def _gradient_by_phases(
    inputs: jax.Array,
    gradient: jax.Array,
    *,
    kernel_shape: tuple[int, ...],
    padding: int,
    dilation: int,
) -> jax.Array:
    """Computes a dilated kernel's gradient as an undilated one per phase.

    A phase is every `dilation`-th row and column.
    """
    rows, columns = (-(-side // dilation) for side in gradient.shape[1:3])
    reach = kernel_shape[0] - 1
    phases = _split_phases(inputs, padding, rows + reach, columns + reach, dilation)
    gradients = _split_phases(gradient, 0, rows, columns, dilation)
    return _gradient_by_xla(
        phases, gradients, kernel_shape=kernel_shape, stride=1, padding=0, dilation=1
    )


def _split_phases(
    maps: jax.Array, padding: int, rows: int, columns: int, dilation: int
) -> jax.Array:
    """Pads and splits [B, H, W, C] -> [dilation**2 B, rows, columns, C]."""
    batch_size, height, width, channels = maps.shape
    after = (rows * dilation - height - padding, columns * dilation - width - padding)
    padded = jnp.pad(maps, [(0, 0), (padding, after[0]), (padding, after[1]), (0, 0)])
    split = padded.reshape(batch_size, rows, dilation, columns, dilation, channels)
    return split.transpose(2, 4, 0, 1, 3, 5).reshape(-1, rows, columns, channels)


def _input_gradient(
    inputs: jax.Array,
    kernel: jax.Array,
    gradient: jax.Array,
    stride: int,
    padding: int,
    dilation: int,
) -> jax.Array:
    if stride > 1:
        return _transpose(
            lambda primal: _convolve(primal, kernel, stride, padding, dilation), inputs, gradient
        )
    # Without the barrier XLA would fold the turned kernel into the layout of the convolution, and
    # its fast CPU code does not take that layout inside a loop.
    turned = lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))
    reach = dilation * (kernel.shape[0] - 1)
    return _convolve_wide(gradient, turned, 1, reach - padding, dilation)


def _transpose(
    linear: Callable[[jax.Array], jax.Array],
    primal: jax.Array | jax.ShapeDtypeStruct,
    gradient: jax.Array,
) -> jax.Array:
    (transposed,) = jax.linear_transpose(linear, primal)(gradient)
    return cast(jax.Array, transposed)


_convolve_wide.defvjp(_wide_forward, _wide_backward)
