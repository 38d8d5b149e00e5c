"""Defines layers as the published networks use them: convolution, batch norm, ReLU, max-pool."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.models.ops.convolution import convolve
from alp_jax.models.ops.depthwise import Padding, convolve_depthwise

BatchNormMode = Literal["running", "batch", "frozen"]
ActivationDtype = Literal["float32", "bfloat16"]
# Type in which convolutions compute and return; None: the type of their parameters.
ACTIVATION_DTYPES: dict[str, jnp.dtype | None] = {
    "float32": None,
    "bfloat16": jnp.dtype(jnp.bfloat16),
}

Initializer = Callable[..., jax.Array]
KernelInit = Literal["normal_0.01", "he_normal"]
KERNEL_INITS: dict[str, Initializer] = {
    "he_normal": nn.initializers.he_normal(),
    "normal_0.01": nn.initializers.normal(0.01),
}


def uniform_fan_in(rng: jax.Array, shape: tuple[int, ...], fan_in: int) -> jax.Array:
    """Draws from U(-b, b), b = 1 / sqrt(fan_in): PyTorch's default for a convolution."""
    bound = 1.0 / np.sqrt(fan_in)
    return jax.random.uniform(rng, shape, jnp.float32, -bound, bound)


def uniform_fan_in_kernel(
    rng: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    """Draws a HWIO kernel by `uniform_fan_in`."""
    return uniform_fan_in(rng, shape, int(np.prod(shape[:-1]))).astype(dtype)


def at_least_single(outputs: jax.Array) -> jax.Array:
    """Converts a network's outputs to single precision; double stays double."""
    return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))


@jax.custom_vjp
def relu(inputs: jax.Array) -> jax.Array:
    """Computes max(x, 0), and the gradient from the outputs.

    The next layer stores the outputs anyway; `jax.nn.relu` would also store a mask.
    """
    return jnp.maximum(inputs, 0)


def _relu_forward(inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    outputs = relu(inputs)
    return outputs, outputs


def _relu_backward(outputs: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(outputs > 0, gradient, 0),)


relu.defvjp(_relu_forward, _relu_backward)


@jax.custom_vjp
def relu6(inputs: jax.Array) -> jax.Array:
    """Computes min(max(x, 0), 6), and the gradient from the outputs, as `relu` does."""
    return jnp.clip(inputs, 0, 6)


def _relu6_forward(inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    outputs = relu6(inputs)
    return outputs, outputs


def _relu6_backward(outputs: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (jnp.where((outputs > 0) & (outputs < 6), gradient, 0),)


relu6.defvjp(_relu6_forward, _relu6_backward)


class Conv(nn.Module):
    """Convolves in 2-D, NHWC, with `padding` zeros on every side (PyTorch's convention).

    Parameters have single precision; `dtype` is the type of the product and its gradients.
    """

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    padding: int = 0
    use_bias: bool = False
    kernel_init: Initializer = nn.initializers.he_normal()
    dtype: jnp.dtype | None = None
    bias_init: Initializer | None = None  # None: PyTorch's default, `uniform_fan_in`.

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Convolves [B, H, W, C] -> [B, H', W', features].

        H' = (H + 2p - d(k-1) - 1) // stride + 1, with padding p, dilation d and kernel size k.
        """
        shape = (self.kernel_size, self.kernel_size, inputs.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        inputs, kernel = nn.dtypes.promote_dtype(inputs, kernel, dtype=self.dtype)
        outputs = convolve(
            inputs, kernel, stride=self.stride, padding=self.padding, dilation=self.dilation
        )
        if self.use_bias:
            fan_in = int(np.prod(shape[:-1]))
            if self.bias_init is None:
                bias = self.param("bias", uniform_fan_in, (self.features,), fan_in)
            else:
                bias = self.param("bias", self.bias_init, (self.features,))
            outputs += bias.astype(outputs.dtype)
        return outputs


class DepthwiseConv(nn.Module):
    """Convolves each channel with its own kernel, NHWC.

    `padding` is ((above, below), (left, right)) in pixels; None: as much on every side as keeps the
    size at stride 1, for an odd kernel size. Parameters have single precision; `dtype` is the type
    of the product and its gradients.
    """

    kernel_size: int
    stride: int = 1
    dilation: int = 1
    padding: Padding | None = None
    use_bias: bool = False
    kernel_init: Initializer = nn.initializers.he_normal()
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Convolves [B, H, W, C] -> [B, H', W', C], see `convolve_depthwise`; the bias begins 0."""
        channels = inputs.shape[-1]
        shape = (self.kernel_size, self.kernel_size, 1, channels)
        kernel = self.param("kernel", self.kernel_init, shape)
        inputs, kernel = nn.dtypes.promote_dtype(inputs, kernel, dtype=self.dtype)
        around = (self.dilation * (self.kernel_size // 2),) * 2
        outputs = convolve_depthwise(
            inputs,
            kernel,
            stride=self.stride,
            padding=self.padding or (around, around),
            dilation=self.dilation,
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (channels,))
            outputs += bias.astype(outputs.dtype)
        return outputs


class BatchNorm(nn.Module):
    """Normalises over all but the channel axis, in one of three readings of the paper.

    - "running": normalises with the running statistics from before this batch, which are constant
      for the gradient; the batch then updates them with momentum. "Batch norm parameters are
      updated with momentum but current batch statistics are not used during training" (Cicek et
      al., ACCV 2020, section 4.1).
    - "batch": normalises with the batch's statistics, and updates the running ones (AdvEnt's code).
    - "frozen": normalises with the running statistics, which never change (CRST's code).

    Without `train`, every mode normalises with the running statistics and updates nothing. As in
    PyTorch, the unbiased batch variance updates the running variance, and the biased one
    normalises.

    Statistics and arithmetic have single precision for any type of inputs; outputs have the type of
    the inputs.
    """

    mode: BatchNormMode
    train_affine: bool
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Normalises [B, H, W, C]; without `train`, every mode uses the running statistics."""
        features = (inputs.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        if not self.train_affine:
            scale, bias = jax.lax.stop_gradient((scale, bias))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        running_var = self.variable("batch_stats", "var", jnp.ones, features)

        mean, var = running_mean.value, running_var.value
        if train and self.mode != "frozen" and not self.is_initializing():
            batch_mean, batch_var = _moments(inputs, mean)
            count = inputs.size // inputs.shape[-1]
            unbiased_var = batch_var * (count / max(count - 1, 1))
            running_mean.value = self._moved(mean, batch_mean)
            running_var.value = self._moved(var, unbiased_var)
            if self.mode == "batch":
                mean, var = batch_mean, batch_var
        multiplier = scale * jax.lax.rsqrt(var + self.epsilon)
        return (inputs * multiplier + (bias - mean * multiplier)).astype(inputs.dtype)

    def _moved(self, running: jax.Array, batch: jax.Array) -> jax.Array:
        batch = jax.lax.stop_gradient(batch)
        return self.momentum * running + (1.0 - self.momentum) * batch


def _moments(inputs: jax.Array, near: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes mean and biased variance of each channel, reading the inputs once.

    E[d] and E[d^2] of d = inputs - near need one pass; first the mean and then the variance would
    need two. `near`, the running mean, avoids cancellation in E[d^2] - E[d]^2.
    """
    near = jax.lax.stop_gradient(near)
    differences = inputs.astype(near.dtype) - near
    axes = tuple(range(inputs.ndim - 1))
    mean = jnp.mean(differences, axes)
    var = jnp.mean(jnp.square(differences), axes) - jnp.square(mean)
    return near + mean, jnp.maximum(var, 0)


def max_pool_ceil(inputs: jax.Array) -> jax.Array:
    """Max-pools 3x3 windows with stride 2, padding 1 and output sizes rounded up (ceil mode).

    An even side n gives n / 2 + 1 outputs, as in the published DeepLabv2 networks.
    """
    # PyTorch keeps a last window that starts inside the left-padded input: one more pad when even.
    paddings = [(0, 0), *((1, 2 - side % 2) for side in inputs.shape[1:3]), (0, 0)]
    return jax.lax.reduce_window(
        inputs, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), paddings
    )
