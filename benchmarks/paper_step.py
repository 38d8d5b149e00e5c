"""Defines the step that benchmarks measure: the paper's network, sizes and losses, as shapes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from alp_jax.objective import steps
from alp_jax.run import assembly
from alp_jax.settings import validation
from configs import default

SOURCE_SIZE, TARGET_SIZE, PATCH_SIZE = (720, 1280), (512, 1024), (256, 256)


def create_config(
    *, scale: int = 1, batch_size: int = 1, activation_dtype: str = "float32", **model_options: Any
) -> ml_collections.ConfigDict:
    """Creates ALP-GI's configuration, with the sides of images and patches divided by `scale`.

    Raises:
      UserError: if the configuration is invalid, such as patches too small for the discriminator.
    """
    config = default.get_config("alp_gi")
    with config.unlocked():
        config.data.source_size, config.data.target_size, config.objective.patch_size = (
            tuple(side // scale for side in size) for size in (SOURCE_SIZE, TARGET_SIZE, PATCH_SIZE)
        )
        config.data.batch_size = batch_size
        config.model.activation_dtype = activation_dtype
        config.discriminator.activation_dtype = activation_dtype
        config.model.update(model_options)
    validation.validate(config)
    return config


def describe(config: ml_collections.ConfigDict) -> tuple[Any, tuple[Any, Any, Any]]:
    """Returns the jitted step, whose state is donated, and the shapes of (state, batch, rng)."""
    statics = assembly.create_statics(config)
    rng = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(functools.partial(assembly.create_train_state, statics), rng)
    batch_size = config.data.batch_size
    source = (batch_size, *config.data.source_size)
    target = (batch_size, *config.data.target_size)
    batch = {
        "source_images": jax.ShapeDtypeStruct((*source, 3), jnp.uint8),
        "source_labels": jax.ShapeDtypeStruct(source, jnp.uint8),
        "target_images": jax.ShapeDtypeStruct((*target, 3), jnp.uint8),
    }
    step = jax.jit(functools.partial(steps.train_step, **statics), donate_argnums=0)
    return step, (state, batch, rng)


def count_flop(config: ml_collections.ConfigDict) -> float:
    """Counts the floating-point operations of a step with direct convolutions.

    Counts in the program lowered for a TPU, since the CPU's has other algorithms, and without scans
    over blocks, since XLA counts the body of a loop once. Nothing is compiled.
    """
    with config.unlocked():
        config.model.scan_blocks = False
    step, arguments = describe(config)
    return step.trace(*arguments).lower(lowering_platforms=("tpu",)).cost_analysis()["flops"]
