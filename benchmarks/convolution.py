"""Times the forms of `alp_jax.models.ops` against XLA's own convolution, on one core.

  taskset -c 0 python -m benchmarks.convolution

Layers are those of DeepLabv2-ResNet101 on a source image of half the paper's size (360x640), and
the depthwise ones of EfficientNet-Lite0 on four images of 180x240. Each number is the best of five
(of one, if that takes a second), in milliseconds: XLA's / ours; in a loop, of two.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from alp_jax.models.inverted_residual import find_padding
from alp_jax.models.ops.convolution import convolve
from alp_jax.models.ops.depthwise import convolve_depthwise
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

# Name: channels, kernel size, stride, dilation, height and width of the map.
DEPTHWISE = {
    "block 1, 3x3, stride 2": (96, 3, 2, 1, 90, 120),
    "block 2, 3x3": (144, 3, 1, 1, 45, 60),
    "block 3, 5x5, stride 2": (144, 5, 2, 1, 45, 60),
    "block 4, 5x5": (240, 5, 1, 1, 23, 30),
    "block 9, 5x5": (672, 5, 1, 1, 12, 15),
    "block 12, 5x5, dilation 2": (1152, 5, 1, 2, 12, 15),
    "the same, output stride 8": (1152, 5, 1, 4, 23, 30),
}
_DEPTHWISE_BATCH = 4

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
    print(f"{'':28} " + " ".join(f"{product:>17}" for product in PROGRAMS))
    rows: list[dict[str, Any]] = []
    for name, layer in LAYERS.items():
        rows.append(_measure(name, *_create_layer(*layer), programs=PROGRAMS))
    # No loop over blocks has depthwise convolutions.
    programs = {product: PROGRAMS[product] for product in ("forward", "to inputs", "to kernel")}
    for name, layer in DEPTHWISE.items():
        rows.append(_measure(name, *_create_depthwise(*layer), programs=programs))
    if flags.output:
        content = {"processor": results.processor(), "rows": rows}
        results.save(flags.output, "convolution", arguments, content)
    return 0


def _create_layer(
    channels: int, features: int, kernel_size: int, dilation: int, height: int, width: int
) -> tuple[Form, Form, tuple[int, ...], tuple[int, ...]]:
    """Returns XLA's form and ours, and the shapes of inputs and kernel."""
    padding = dilation * (kernel_size // 2)
    theirs = functools.partial(
        lax.conv_general_dilated,
        window_strides=(1, 1),
        padding=[(padding, padding)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    ours = functools.partial(convolve, padding=padding, dilation=dilation)
    return (
        theirs,
        ours,
        (1, height, width, channels),
        (kernel_size, kernel_size, channels, features),
    )


def _create_depthwise(
    channels: int, kernel_size: int, stride: int, dilation: int, height: int, width: int
) -> tuple[Form, Form, tuple[int, ...], tuple[int, ...]]:
    """Returns XLA's form and ours, and the shapes of inputs and kernel."""
    padding = find_padding("same", (height, width), kernel_size, stride, dilation)
    theirs = functools.partial(
        lax.conv_general_dilated,
        window_strides=(stride, stride),
        padding=padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )
    ours = functools.partial(convolve_depthwise, stride=stride, padding=padding, dilation=dilation)
    shape = (_DEPTHWISE_BATCH, height, width, channels)
    return theirs, ours, shape, (kernel_size, kernel_size, 1, channels)


def _measure(
    name: str,
    theirs: Form,
    ours: Form,
    map_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    *,
    programs: dict[str, Callable[..., jax.Array]],
) -> dict[str, Any]:
    """Times the programs of a layer in both forms, and prints its line."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=map_shape), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=kernel_shape), jnp.float32)
    outputs = jax.eval_shape(ours, images, kernel)
    gradient = jnp.asarray(rng.normal(size=outputs.shape), jnp.float32)
    milliseconds = {
        product: {
            side: _time(functools.partial(program, form), images, kernel, gradient)
            for side, form in (("xla", theirs), ("alp_jax", ours))
        }
        for product, program in programs.items()
    }
    cells = ["{xla:8.1f}/{alp_jax:8.1f}".format(**both) for both in milliseconds.values()]
    print(f"{name:28} {' '.join(cells)}", flush=True)
    return {
        "layer": name,
        "map_size": map_shape[1:3],
        "kernel_shape": kernel_shape,
        "milliseconds": milliseconds,
    }


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
