"""2-D convolution in the form that is fast on the device: the one place that decides.

Synopsis:

  outputs = convolve(inputs, kernel, stride=1, padding=2, dilation=2)

What was measured is in `benchmarks/convolution.py`:

- A 1x1 convolution is a product of matrices. XLA on the CPU runs that about twice as fast as a
  convolution, and it is the same elsewhere.
- A convolution to few channels (the classifier's, of 2048 channels to 19) is one product to the
  channels of all taps, and then a sum of shifted maps: no device's matrix unit is filled by 19.
- A 3x3 convolution of many channels without stride, and both its gradients, are on the CPU by
  Winograd's algorithm (`alp_jax.models.ops.winograd`): 4/9 of the multiplications.
- The gradient of another wide kernel is, on the CPU, a product for each tap. XLA takes it for a
  convolution whose window is the whole map, at a fifth of the rate of a product, and in a loop
  (`Backbone.scan_blocks`) at a hundredth.
- The gradient of a dilated kernel is, on NVIDIA's GPUs, that of an undilated convolution of each
  phase. Of the dilated one XLA makes a convolution whose window is the whole map, for which cuDNN
  leaves the tensor cores idle: half of a step was that.

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
# "Wide": with fewer channels on either side XLA's convolution is as fast as products on the CPU.
_WIDE = 32
# With fewer channels on either side Winograd's transforms cost what its products save.
_MIN_WINOGRAD = 64
# Fewer tiles of outputs in a batch are not worth the transforms of the kernel.
_MIN_TILES = 32
# "Few" output channels: fewer than one in so many input channels.
_FEW = 16


def convolve(
    inputs: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: int = 0, dilation: int = 1
) -> jax.Array:
    """Convolves as PyTorch does: cross-correlation, `padding` zeros on every side.

    Args:
      inputs: [B, H, W, C].
      kernel: [k, k, C, features], of the same type.
      stride, padding, dilation: of both axes, pixels.
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
    """[B, H, W, C] and [1, 1, C, D] -> [B, H, W, D].

    A loop over blocks keeps no copy of `kernel` for its gradient, as it would of a part of it.
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
    """Multiplies once for all taps, then sums the taps' maps, each shifted to its place."""
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
    """The (row, column) that each tap of a kernel reads in a padded map for output (0, 0)."""
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
    """Whether it is Winograd's kind of convolution, and large enough to gain by it.

    Not in half precision: the transforms would round there.
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
    """A tap's gradient: the inputs that it read, times the gradient of what it gave to."""
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
    """A phase is every `dilation`-th row and column: what a dilated kernel reads together."""
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
    # Without the barrier XLA would fold the turned kernel into the convolution's own layout, which
    # inside a loop (`Backbone.scan_blocks`) is not one that its fast CPU code takes.
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
