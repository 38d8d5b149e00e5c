"""Defines the step that benchmarks measure: the paper's network, sizes and losses, as shapes."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.data.labels import load_label_set
from alp_jax.data.samples import Batch, Sample
from alp_jax.objective import step
from alp_jax.run import assembly
from alp_jax.self_training.settings import SELF_TRAINING
from alp_jax.workdir.settings import RunSettings, build_settings
from configs import default

SOURCE_SIZE, TARGET_SIZE, PATCH_SIZE = (720, 1280), (512, 1024), (256, 256)


def create_settings(
    *,
    scale: int = 1,
    batch_size: int = 1,
    activation_dtype: str = "float32",
    data: int = 0,
    space: int = 0,
    **backbone_options: Any,
) -> RunSettings:
    """Creates ALP-GI's settings, with the sides of images and patches divided by `scale`.

    Args:
      scale: divisor of the sides.
      batch_size: images of each domain.
      activation_dtype: of the segmenter and the discriminator.
      data, space: sizes of the mesh.
      backbone_options: fields of `config.model.backbone`.
    Raises:
      UserError: if the configuration is invalid, such as patches too small for the discriminator.
    """
    source_size, target_size, patch_size = (
        tuple(side // scale for side in size) for size in (SOURCE_SIZE, TARGET_SIZE, PATCH_SIZE)
    )
    config = default.get_config("alp_gi")
    with config.unlocked():
        config.data.update(source_size=source_size, target_size=target_size, batch_size=batch_size)
        config.mesh.update(data=data, space=space)
        default.set_everywhere(
            config.terms, patch_size=patch_size, activation_dtype=activation_dtype
        )
        config.model.activation_dtype = activation_dtype
        config.model.backbone.update(backbone_options)
    return build_settings(config)


def describe(settings: RunSettings) -> tuple[Any, tuple[Any, Batch, Any]]:
    """Returns the jitted step, whose state is donated, and the shapes of (state, batch, rng)."""
    setup = assembly.create_setup(settings)
    rng = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(functools.partial(assembly.create_train_state, setup), rng)

    batch = {domain: _describe_sample(settings, domain) for domain in setup.objective.domains}
    train_step = jax.jit(functools.partial(step.train_step, setup=setup), donate_argnums=0)
    return train_step, (state, batch, rng)


def _describe_sample(settings: RunSettings, domain: str) -> Sample:
    """Returns the shapes of a domain's images, and of its labels where it has any."""
    size = settings.data.batch_size
    mixes = domain == SELF_TRAINING
    pixels = size, *(settings.rounds.crop_size if mixes else settings.data.domain(domain).size)
    labels = None if domain == "target" else jax.ShapeDtypeStruct(pixels, jnp.uint8)
    from_target = jax.ShapeDtypeStruct((size,), jnp.bool_) if mixes else None
    return Sample(jax.ShapeDtypeStruct((*pixels, 3), jnp.uint8), labels, from_target=from_target)


def draw_batch(settings: RunSettings) -> Batch:
    """Draws random images, and random labels for the source."""
    rng = np.random.default_rng(0)
    _, (_, shapes, _) = describe(settings)
    num_classes = load_label_set(settings.data.label_set).num_classes

    def draw(sample: Sample) -> Sample:
        images, labels = rng.integers(0, 256, sample.images.shape, np.uint8), sample.labels
        if labels is not None:
            labels = rng.integers(0, num_classes, labels.shape, np.uint8)
        from_target = sample.from_target
        if from_target is not None:
            from_target = np.arange(len(images)) % 2 == 0
        return Sample(images, labels, from_target=from_target)

    return {domain: draw(sample) for domain, sample in shapes.items()}


def draw_state(settings: RunSettings) -> Any:
    """Draws weights; scales and variances are 1, all else 0. The real start takes a minute."""
    rng = np.random.default_rng(0)
    _, (shapes, _, _) = describe(settings)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if "opt_state" not in name and leaf.ndim > 1:
            return 0.01 * rng.standard_normal(leaf.shape, leaf.dtype)
        ones = "opt_state" not in name and name.endswith(("/scale", "/var"))
        return np.full(leaf.shape, ones, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def count_flop(settings: RunSettings) -> float:
    """Counts the floating-point operations of a step with direct convolutions.

    Counts in the program lowered for a TPU, since the CPU's has other algorithms, and without scans
    over blocks, since XLA counts the body of a loop once. Nothing is compiled.

    Args:
      settings: of the step.
    """
    backbone = dataclasses.replace(settings.model.backbone, scan_blocks=False)
    model = dataclasses.replace(settings.model, backbone=backbone)
    train_step, arguments = describe(dataclasses.replace(settings, model=model))
    lowered = train_step.trace(*arguments).lower(lowering_platforms=("tpu",))
    return lowered.cost_analysis()["flops"]
