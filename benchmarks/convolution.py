"""Times the forms of `alp_jax.models.ops.convolution` against XLA's own convolution, on one core.

  taskset -c 0 python -m benchmarks.convolution

Layers are those of DeepLabv2-ResNet101 on a source image of half the paper's size (360x640). Each
number is the best of five (of one, if that takes a second), in milliseconds: XLA's / ours; in a
loop, of two.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alp_jax.models.ops.convolution import convolve
from benchmarks import results

# Name: channels, features, kernel size, dilation, height and width of the map.
LAYERS = {
    "layer1, 3x3": (64, 64, 3, 1, 91, 161),
    "layer3, 1x1 reducing": (1024, 256, 1, 1, 46, 81),
    "layer3, 3x3": (256, 256, 3, 2, 46, 81),
    "layer3, 1x1 widening": (256, 1024, 1, 1, 46, 81),
    "layer4, 3x3": (512, 512, 3, 4, 46, 81),
    "classifier, 3x3": (2048, 19, 3, 12, 46, 81),
}

Form = Callable[[jax.Array, jax.Array], jax.Array]


def _kernel_gradient(
    form: Form, images: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> jax.Array:
    return jax.vjp(form, images, kernel)[1](gradient)[1]


def _kernel_gradients_in_loop(
    form: Form, images: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> jax.Array:
    """Of two maps in turn, as equal blocks of a stage have theirs computed."""
    pairs = (jnp.stack([images] * 2), jnp.stack([gradient] * 2))
    return lax.map(lambda pair: _kernel_gradient(form, pair[0], kernel, pair[1]), pairs)


# What is computed of a layer, given its inputs, its kernel and the gradient of its outputs.
PROGRAMS: dict[str, Callable[[Form, jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "forward": lambda form, images, kernel, gradient: form(images, kernel),
    "to inputs": lambda form, *inputs: jax.vjp(form, *inputs[:2])[1](inputs[2])[0],
    "to kernel": _kernel_gradient,
    "to kernel, loop": _kernel_gradients_in_loop,
}


def main(arguments: Sequence[str]) -> int:
    """Prints a line for each layer; writes JSON where --output says."""
    flags = results.create_parser("convolution", __doc__).parse_args(arguments)
    print(f"{'':24} " + " ".join(f"{product:>17}" for product in PROGRAMS))
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for name, (channels, features, kernel_size, dilation, height, width) in LAYERS.items():
        images = jnp.asarray(rng.normal(size=(1, height, width, channels)), jnp.float32)
        shape = (kernel_size, kernel_size, channels, features)
        kernel = jnp.asarray(rng.normal(size=shape), jnp.float32)
        gradient = jnp.asarray(rng.normal(size=(1, height, width, features)), jnp.float32)
        padding = dilation * (kernel_size // 2)
        theirs = functools.partial(
            lax.conv_general_dilated,
            window_strides=(1, 1),
            padding=[(padding, padding)] * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        ours = functools.partial(convolve, padding=padding, dilation=dilation)
        milliseconds = {
            product: {
                side: _time(functools.partial(program, form), images, kernel, gradient)
                for side, form in (("xla", theirs), ("alp_jax", ours))
            }
            for product, program in PROGRAMS.items()
        }
        rows.append(
            {
                "layer": name,
                "map_size": (height, width),
                "kernel_shape": shape,
                "milliseconds": milliseconds,
            }
        )
        cells = ["{xla:8.1f}/{alp_jax:8.1f}".format(**both) for both in milliseconds.values()]
        print(f"{name:24} {' '.join(cells)}", flush=True)
    if flags.output:
        content = {"processor": results.processor(), "rows": rows}
        results.save(flags.output, "convolution", arguments, content)
    return 0


def _time(program: Callable[..., jax.Array], *arrays: jax.Array) -> float:
    """The best of five, or the one that takes a second, in milliseconds."""
    compiled = jax.jit(program).lower(*arrays).compile()

    def call() -> None:
        jax.block_until_ready(compiled(*arrays))

    seconds = results.time_calls(call, 1, unmeasured=0)
    if seconds[0] < 1:
        seconds += results.time_calls(call, 4, unmeasured=0)
    return 1e3 * min(seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
