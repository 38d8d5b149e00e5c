"""One battery over every backbone and every decoder: a new file is tested without a new test."""

import dataclasses
import functools
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alp_jax import models
from alp_jax.models.parts import Backbone, Decoder, Group
from alp_jax.models.settings import BACKBONES, DECODERS, ModelSettings
from alp_jax.objective.optim import create_segmenter_optimizer
from alp_jax.objective.optimizer_settings import OptimizerSettings
from alp_jax.settings import kinds
from alp_jax.settings.schema import build, to_config

NUM_CLASSES = 5
# Networks that compile in a second; a new file may have VARIANTS["tiny"] instead of a line here.
TINY: dict[str, dict[str, Any]] = {
    "resnet": {
        "stem": "two_convs",
        "stem_widths": (4, 8),
        "block": "basic",
        "depths": (1, 3),
        "widths": (8, 12),
        "strides": (1, 1),
        "dilations": (1, 2),
        "kernel_init": "he_normal",
    },
    "aspp": {"dilations": (1, 2)},
    "shared": {},
    "light": {},
    "segformer": {"width": 8},
    "daformer": {"width": 8, "dilations": (1, 2)},
}
# Every decoder with one backbone, and every other backbone with one decoder.
BACKBONE_OF = {"light": "dinov2", "segformer": "mit", "daformer": "mit"}
PAIRS = [(BACKBONE_OF.get(decoder, "resnet"), decoder) for decoder in kinds.names(DECODERS)]
PAIRS += [(other, "aspp") for other in kinds.names(BACKBONES) if other not in dict(PAIRS)]
every_network = pytest.mark.parametrize(("backbone", "decoder"), PAIRS)


def get_tiny_fields(kind: str, cls: type) -> dict[str, Any]:
    variants = getattr(sys.modules[cls.__module__], "VARIANTS", {})
    if kind not in TINY and "tiny" not in variants:
        pytest.fail(
            f"{cls.__module__} needs the values of its fields for a tiny network, which runs on "
            "images of half its init_size: write them as VARIANTS = {'tiny': {...}} in that file, "
            "or as a line of TINY here."
        )
    return TINY[kind] if kind in TINY else variants["tiny"]


@functools.cache
def create_settings(backbone: str, decoder: str, dtype: str = "float32") -> ModelSettings:
    backbone_cls = kinds.load(BACKBONES, backbone, "BACKBONE")
    decoder_cls = kinds.load(DECODERS, decoder, "DECODER")
    assert issubclass(backbone_cls, Backbone)
    assert issubclass(decoder_cls, Decoder)
    features = backbone_cls(**get_tiny_fields(backbone, backbone_cls))
    head = decoder_cls(**get_tiny_fields(decoder, decoder_cls))
    heads = {"main": head}
    if head.shares is not None:
        owner = kinds.load(DECODERS, "aspp", "DECODER")
        heads = {"main": owner(**TINY["aspp"], dropout_rate=0.5), "second": head}
    elif len(features.stage_channels) > 1:
        heads["aux"] = dataclasses.replace(head, stage=-2)
    return ModelSettings(features, heads, input_std=(60.0, 60.0, 60.0), activation_dtype=dtype)


class Computed(NamedTuple):
    segmenter: models.Segmenter
    params: Any
    model_state: Any
    images: jax.Array
    trained: models.Outputs
    new_state: Any
    gradient: Any
    evaluated: models.Outputs
    num_traces: int


@functools.cache
def compute(backbone: str, decoder: str, dtype: str = "float32") -> Computed:
    """Asks everything of one compiled program, called twice."""
    segmenter = models.create_segmenter(create_settings(backbone, decoder, dtype), NUM_CLASSES)
    params, model_state = jax.jit(segmenter.init)(jax.random.key(0))
    size = (segmenter.init_size[0] // 2, segmenter.init_size[1])
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, *size, 3)), jnp.uint8)
    traces = []

    def loss(params: Any, model_state: Any, images: jax.Array, key: jax.Array) -> Any:
        outputs, state = segmenter.apply(params, model_state, images, train=True, key=key)
        squares = [jnp.mean(logits**2) for logits in outputs.logits.values()]
        return sum(squares), (outputs, state)

    @jax.jit
    def run(params: Any, model_state: Any, images: jax.Array, key: jax.Array) -> Any:
        traces.append(images)
        gradient, (outputs, state) = jax.grad(loss, has_aux=True)(params, model_state, images, key)
        evaluated, unchanged = segmenter.apply(params, model_state, images, train=False)
        assert unchanged is model_state
        return outputs, state, gradient, evaluated

    run(params, model_state, images, jax.random.key(2))
    results = run(params, model_state, images, jax.random.key(1))
    return Computed(segmenter, params, model_state, images, *results, num_traces=len(traces))


@every_network
def test_settings_survive_a_configuration(backbone, decoder):
    settings = create_settings(backbone, decoder)
    assert build(ModelSettings, to_config(settings)) == settings


@every_network
def test_outputs_have_the_declared_shapes(backbone, decoder):
    found = compute(backbone, decoder)
    channels = create_settings(backbone, decoder).backbone.stage_channels
    for outputs in (found.trained, found.evaluated):
        assert outputs.logits.keys() == set(found.segmenter.heads)
        for logits in outputs.logits.values():
            assert logits.ndim == 4
            assert (logits.shape[0], logits.shape[-1]) == (2, NUM_CLASSES)
            assert logits.dtype == jnp.float32
            assert np.isfinite(logits).all()
        assert tuple(features.shape[-1] for features in outputs.features) == channels
        assert all(features.shape[0] == 2 for features in outputs.features)
    assert jax.tree.structure(found.new_state) == jax.tree.structure(found.model_state)
    states = zip(jax.tree.leaves(found.new_state), jax.tree.leaves(found.model_state), strict=True)
    if any(np.any(new != old) for new, old in states):
        assert create_settings(backbone, decoder).moves_statistics


@every_network
def test_every_parameter_has_a_group(backbone, decoder):
    found = compute(backbone, decoder)
    groups = found.segmenter.groups(found.params)
    assert jax.tree.structure(groups) == jax.tree.structure(found.params)
    for part, tree in groups.items():
        declared = "backbone" if part == "backbone" else "decoder"
        for group in jax.tree.leaves(tree):
            assert isinstance(group, Group)
            assert group.part in (declared, "frozen")
            assert group.repeats >= 1
            assert group.depth >= 0


@every_network
def test_two_calls_are_one_trace(backbone, decoder):
    assert compute(backbone, decoder).num_traces == 1


@every_network
def test_gradient_is_finite_and_reaches_every_part(backbone, decoder):
    found = compute(backbone, decoder)
    for part, tree in found.gradient.items():
        leaves = jax.tree.leaves(tree)
        assert all(np.isfinite(leaf).all() for leaf in leaves), part
        assert any(np.any(leaf) for leaf in leaves), part


@every_network
def test_the_optimizer_moves_all_but_frozen_parameters(backbone, decoder):
    found = compute(backbone, decoder)
    optimizer = create_segmenter_optimizer(OptimizerSettings(), found.segmenter)
    ones = jax.tree.map(jnp.ones_like, found.params)
    updates, _ = optimizer.transform.update(ones, optimizer.transform.init(ones), ones)
    moved = optax.apply_updates(ones, updates)
    groups = jax.tree.leaves(found.segmenter.groups(found.params))
    for group, leaf in zip(groups, jax.tree.leaves(moved), strict=True):
        assert np.all(leaf == 1) if group.part == "frozen" else np.all(leaf < 1)


@every_network
def test_bfloat16_keeps_parameters_and_logits_in_single_precision(backbone, decoder):
    half, single = compute(backbone, decoder, "bfloat16"), compute(backbone, decoder)
    for tree in (half.params, half.new_state, half.gradient, half.evaluated.logits):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} <= {jnp.dtype(jnp.float32)}
    assert any(features.dtype == jnp.bfloat16 for features in half.evaluated.features)
    for head, logits in half.evaluated.logits.items():
        expected = single.evaluated.logits[head]
        np.testing.assert_allclose(logits, expected, rtol=0, atol=0.1 * np.abs(expected).max())


def test_a_shared_decoder_drops_other_channels_in_its_second_call():
    found = compute("resnet", "shared")
    assert found.params.keys() == {"backbone", "classifier"}
    trained, evaluated = found.trained.logits, found.evaluated.logits
    assert np.any(trained["main"] != trained["second"])
    np.testing.assert_array_equal(evaluated["main"], evaluated["second"])
