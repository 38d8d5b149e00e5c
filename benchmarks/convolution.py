"""Times the forms of `alp_jax.models.convolution` against XLA's own convolution, on one core.

  taskset -c 0 python -m benchmarks.convolution

Layers are those of DeepLabv2-ResNet101 on a source image of half the paper's size (360x640). Each
number is the best of five, in milliseconds: XLA's / ours.
"""

import functools
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alp_jax.models.convolution import convolve
from benchmarks import results

# Name: channels, features, kernel size, dilation; on a map of 46x81 pixels.
LAYERS = {
    "layer3, 1x1 reducing": (1024, 256, 1, 1),
    "layer3, 3x3": (256, 256, 3, 2),
    "layer3, 1x1 widening": (256, 1024, 1, 1),
    "layer4, 3x3": (512, 512, 3, 4),
    "classifier, 3x3": (2048, 19, 3, 12),
}
MAP_SIZE = (46, 81)


def main() -> int:
    """Prints a line for each layer."""
    print(f"{'':24} {'forward':>17} {'to inputs':>17} {'to kernel':>17}")
    rng = np.random.default_rng(0)
    for name, (channels, features, kernel_size, dilation) in LAYERS.items():
        images = jnp.asarray(rng.normal(size=(1, *MAP_SIZE, channels)), jnp.float32)
        shape = (kernel_size, kernel_size, channels, features)
        kernel = jnp.asarray(rng.normal(size=shape), jnp.float32)
        gradient = jnp.asarray(rng.normal(size=(1, *MAP_SIZE, features)), jnp.float32)
        padding = dilation * (kernel_size // 2)
        theirs = functools.partial(
            lax.conv_general_dilated,
            window_strides=(1, 1),
            padding=[(padding, padding)] * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        ours = functools.partial(convolve, padding=padding, dilation=dilation)
        cells = []
        for program in _programs():
            both = [
                _time(functools.partial(program, form), images, kernel, gradient)
                for form in (theirs, ours)
            ]
            cells.append("{:8.1f}/{:8.1f}".format(*both))
        print(f"{name:24} {' '.join(cells)}", flush=True)
    return 0


Form = Callable[[jax.Array, jax.Array], jax.Array]


def _programs() -> list[Callable[[Form, jax.Array, jax.Array, jax.Array], jax.Array]]:
    return [
        lambda form, images, kernel, gradient: form(images, kernel),
        lambda form, images, kernel, gradient: jax.vjp(form, images, kernel)[1](gradient)[0],
        lambda form, images, kernel, gradient: jax.vjp(form, images, kernel)[1](gradient)[1],
    ]


def _time(program: Callable[..., jax.Array], *arrays: jax.Array) -> float:
    """The best of five, in milliseconds, after one that compiles."""
    compiled = jax.jit(program)
    return 1e3 * min(results.time_calls(lambda: jax.block_until_ready(compiled(*arrays)), 5))


if __name__ == "__main__":
    sys.exit(main())
