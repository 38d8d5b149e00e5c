import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax import models
from alp_jax.models import layers
from alp_jax.models.backbones.resnet import ResNetSettings
from alp_jax.models.decoders.aspp import AsppSettings
from alp_jax.models.discriminator import DomainDiscriminator, min_input_size
from alp_jax.models.settings import ModelSettings
from tests import reference

GOLDEN = pathlib.Path(__file__).with_name("parameters_golden.json")


WIDTHS = (64, 128, 256, 512)  # Of the published discriminator.
TOY_BACKBONE = ResNetSettings(
    stem="two_convs",
    stem_widths=(24, 48),
    block="basic",
    depths=(2, 2, 1),
    widths=(48, 48, 48),
    strides=(1, 1, 1),
    dilations=(1, 2, 4),
    kernel_init="he_normal",
)
# The network of configs/toy_cities.py.
TOY = ModelSettings(
    backbone=TOY_BACKBONE,
    heads={"main": AsppSettings(dilations=(1, 3, 6, 9))},
    input_order="rgb",
    input_mean=(110.0, 110.0, 110.0),
    input_std=(60.0, 60.0, 60.0),
)


def with_aux(model: ModelSettings) -> ModelSettings:
    aux = dataclasses.replace(model.heads["main"], stage=-2)
    return dataclasses.replace(model, heads={"aux": aux, **model.heads})


def with_backbone(model: ModelSettings, **fields: Any) -> ModelSettings:
    return dataclasses.replace(model, backbone=dataclasses.replace(model.backbone, **fields))


@functools.partial(jax.jit, static_argnums=0)
def predict(segmenter: models.Segmenter, params: Any, model_state: Any, images: jax.Array) -> Any:
    return segmenter.apply(params, model_state, images, train=False)


@functools.cache
def init_deeplab(num_classes: int, has_aux: bool) -> Any:
    """Shapes of the published network's parameters and statistics."""
    model = with_aux(ModelSettings()) if has_aux else ModelSettings()
    return jax.eval_shape(models.create_segmenter(model, num_classes).init, jax.random.key(0))


def describe_parameters() -> dict[str, dict[str, str]]:
    """Name of a network -> path of a parameter or statistic -> shape."""
    discriminator = DomainDiscriminator.create(WIDTHS, "float32")
    key = jax.random.key(0)
    trees = {
        "deeplab_resnet101": init_deeplab(19, has_aux=False),
        "deeplab_resnet101_multi_level": init_deeplab(19, has_aux=True),
        "toy_cities": jax.eval_shape(models.create_segmenter(TOY, 16).init, key),
        "discriminator": jax.eval_shape(functools.partial(discriminator.init, num_classes=19), key),
    }
    return {
        name: {
            jax.tree_util.keystr(path): str(leaf.shape)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for name, tree in trees.items()
    }


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("num_classes", "has_aux", "parameters"),
    [
        (19, False, 43_901_068),
        (16, False, 43_679_872),
        (19, True, 44_601_560),
        (16, True, 44_269_760),
    ],
)
def test_deeplab_resnet101_has_the_published_parameters(num_classes, has_aux, parameters):
    params, model_state = init_deeplab(num_classes, has_aux=has_aux)
    assert count(params) == parameters
    affine = [
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path[-1].key in ("scale", "bias") and path[0].key == "backbone"
    ]
    assert sum(affine) == 105_344
    assert count(model_state) == 105_344


def test_parameter_tree_is_the_golden():
    """A renamed or reshaped parameter makes every saved checkpoint unreadable."""
    actual = describe_parameters()
    assert actual == json.loads(GOLDEN.read_text()), (
        "The parameter tree changed; if that is meant, run: python -m tests.test_models"
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 1024), (65, 129)), ((720, 1280), (91, 161)), ((760, 1280), (96, 161))],
)
def test_deeplab_resnet101_feature_sizes(size, expected):
    segmenter = models.create_segmenter(ModelSettings(), 19)
    params, model_state = init_deeplab(19, has_aux=False)
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
    outputs, _ = jax.eval_shape(
        lambda p, s, x: segmenter.apply(p, s, x, train=True), params, model_state, images
    )
    assert outputs.logits["main"].shape == (1, *expected, 19)
    assert outputs.logits["main"].dtype == jnp.float32
    channels = ModelSettings().backbone.stage_channels
    assert tuple(features.shape[-1] for features in outputs.features) == channels


@pytest.mark.parametrize(("num_classes", "parameters"), [(19, 2_781_121), (16, 2_778_049)])
def test_discriminator_has_the_published_parameters_and_sizes(num_classes, parameters):
    discriminator = DomainDiscriminator.create(WIDTHS, "float32")
    params = jax.eval_shape(lambda key: discriminator.init(key, num_classes), jax.random.key(0))
    assert count(params) == parameters
    for size, expected in [((256, 256), (8, 8)), ((720, 1280), (22, 40)), ((32, 32), (1, 1))]:
        maps = jax.ShapeDtypeStruct((1, *size, num_classes), jnp.float32)
        assert jax.eval_shape(discriminator.apply, params, maps).shape == (1, *expected, 1)
    assert min_input_size((64, 128, 256, 512)) == 32


def test_discriminator_receptive_field_is_94_pixels():
    discriminator = DomainDiscriminator.create((2,) * len(WIDTHS), "float32")

    @jax.jit
    @jax.grad
    def differentiate(maps):
        params = discriminator.init(jax.random.key(0), 1)
        return discriminator.apply(params, maps)[0, 3, 3, 0]

    gradient = differentiate(jnp.ones((1, 256, 256, 1)))
    seen = np.flatnonzero(np.abs(gradient[0, :, :, 0]).sum(axis=1))
    assert seen.max() - seen.min() + 1 == 94


def test_discriminator_equals_reference():
    discriminator = DomainDiscriminator.create((16, 32, 64, 128), "float32")
    params = jax.jit(discriminator.init, static_argnums=1)(jax.random.key(0), 3)
    maps = np.random.default_rng(0).normal(size=(2, 32, 64, 3))
    expected = reference.discriminate(jax.device_get(params), maps)
    actual = jax.jit(discriminator.apply)(params, jnp.asarray(maps, jnp.float32))
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("kernel_size", "stride", "dilation", "padding"),
    [(1, 1, 1, 0), (1, 2, 1, 0), (3, 1, 2, 2), (3, 2, 1, 1), (7, 2, 1, 3), (4, 2, 1, 1)],
)
def test_conv_equals_reference(kernel_size, stride, dilation, padding):
    inputs = np.random.default_rng(0).normal(size=(2, 9, 12, 3)).astype(np.float32)
    conv = layers.Conv(5, kernel_size, stride, dilation, padding, use_bias=True)
    variables = conv.init(jax.random.key(0), inputs)
    kernel, bias = (np.asarray(variables["params"][name]) for name in ("kernel", "bias"))
    expected = reference.conv(inputs, kernel, stride, dilation, padding) + bias
    np.testing.assert_allclose(conv.apply(variables, inputs), expected, atol=1e-5)
    bound = 1 / np.sqrt(kernel_size**2 * 3)
    assert np.all(np.abs(bias) <= bound)


def test_max_pool_rounds_up():
    ramp = jnp.arange(4.0)[None, :, None, None] * jnp.ones((1, 4, 5, 1))
    pooled = layers.max_pool_ceil(ramp)
    # n = 4: windows [-1, 1], [1, 3], [3, 5]; n = 5: three windows too.
    np.testing.assert_array_equal(pooled[0, :, 0, 0], [1, 3, 3])
    assert pooled.shape == (1, 3, 3, 1)


@pytest.mark.parametrize("mode", ["running", "batch", "frozen"])
def test_batch_norm_modes(mode):
    rng = np.random.default_rng(0)
    inputs = rng.normal(2.0, 3.0, (2, 3, 4, 5)).astype(np.float32)
    norm = layers.BatchNorm(mode, train_affine=True)
    stats = {"mean": jnp.full(5, 0.5), "var": jnp.full(5, 2.0)}
    params = {"scale": jnp.asarray(rng.normal(size=5)), "bias": jnp.asarray(rng.normal(size=5))}
    outputs, updated = norm.apply(
        {"params": params, "batch_stats": stats}, inputs, train=True, mutable=["batch_stats"]
    )
    mean, var = inputs.mean((0, 1, 2)), inputs.var((0, 1, 2))
    used_mean, used_var = (mean, var) if mode == "batch" else (0.5, 2.0)
    expected = (inputs - used_mean) / np.sqrt(used_var + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    if mode == "frozen":
        np.testing.assert_array_equal(updated["batch_stats"]["mean"], stats["mean"])
        np.testing.assert_array_equal(updated["batch_stats"]["var"], stats["var"])
    else:
        unbiased = var * 24 / 23
        np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.45 + 0.1 * mean, rtol=1e-5)
        np.testing.assert_allclose(updated["batch_stats"]["var"], 1.8 + 0.1 * unbiased, rtol=1e-5)


@pytest.mark.parametrize("mode", ["running", "batch", "frozen"])
def test_batch_norm_evaluation_uses_running_statistics_and_changes_nothing(mode):
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 4, 5)), jnp.float32)
    norm = layers.BatchNorm(mode, train_affine=False)
    stats = {"mean": jnp.full(5, 0.5), "var": jnp.full(5, 2.0)}
    variables = {"params": {"scale": jnp.ones(5), "bias": jnp.zeros(5)}, "batch_stats": stats}
    outputs, updated = norm.apply(variables, inputs, train=False, mutable=["batch_stats"])
    np.testing.assert_allclose(outputs, (inputs - 0.5) / np.sqrt(2.00001), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(updated["batch_stats"]["mean"], stats["mean"])


@pytest.mark.parametrize("train_affine", [True, False])
def test_batch_norm_affine_gradient(train_affine):
    norm = layers.BatchNorm("running", train_affine)
    inputs = jnp.ones((1, 2, 2, 3))
    variables = norm.init(jax.random.key(0), inputs, train=False)
    stats = {"batch_stats": variables["batch_stats"]}
    gradient = jax.grad(lambda p: norm.apply({"params": p, **stats}, inputs, train=False).sum())(
        variables["params"]
    )
    assert (np.abs(gradient["scale"]).sum() > 0) == train_affine


def test_running_batch_norm_sends_no_gradient_through_its_statistics():
    norm = layers.BatchNorm("running", train_affine=True)
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, 2, 3)), jnp.float32)
    variables = norm.init(jax.random.key(0), inputs, train=False)

    def updated_mean(x):
        return norm.apply(variables, x, train=True, mutable=["batch_stats"])[1]["batch_stats"][
            "mean"
        ].sum()

    assert float(updated_mean(inputs)) != 0
    np.testing.assert_array_equal(jax.grad(updated_mean)(inputs), np.zeros_like(inputs))


def test_input_is_scaled_in_the_order_of_the_weights():
    scaling = {"input_mean": (30.0, 20.0, 10.0), "input_std": (1.0, 2.0, 4.0)}
    bgr = models.create_segmenter(dataclasses.replace(TOY, input_order="bgr", **scaling), 16)
    none = {"input_mean": (0.0, 0.0, 0.0), "input_std": (1.0, 1.0, 1.0)}
    rgb = models.create_segmenter(dataclasses.replace(TOY, **none), 16)
    params, model_state = jax.jit(bgr.init)(jax.random.key(0))
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    scaled = (images[..., ::-1] - np.array([30.0, 20.0, 10.0])) / np.array([1.0, 2.0, 4.0])
    expected, _ = predict(rgb, params, model_state, jnp.asarray(scaled))
    actual, _ = predict(bgr, params, model_state, jnp.asarray(images))
    np.testing.assert_allclose(actual.logits["main"], expected.logits["main"], rtol=1e-4, atol=1e-4)


def test_stage_dilations_keep_the_size_and_branches_are_summed():
    segmenter = models.create_segmenter(TOY, 16)
    params, model_state = jax.jit(segmenter.init)(jax.random.key(0))
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 64, 128, 3)), jnp.float32)
    logits = predict(segmenter, params, model_state, images)[0].logits
    assert logits["main"].shape == (1, 16, 32, 16)
    classifier = params["classifier"]
    assert len(classifier) == 4
    parts = []
    for branch in classifier:
        zeroed = {
            name: layer if name == branch else jax.tree.map(jnp.zeros_like, layer)
            for name, layer in classifier.items()
        }
        part, _ = predict(segmenter, {**params, "classifier": zeroed}, model_state, images)
        parts.append(part.logits["main"])
    np.testing.assert_allclose(logits["main"], sum(parts), atol=1e-4)


def test_auxiliary_classifier_reads_the_last_stage_but_one():
    segmenter = models.create_segmenter(with_aux(with_backbone(TOY, widths=(8, 16, 24))), 16)
    assert segmenter.heads == ("main", "aux")
    params, model_state = jax.jit(segmenter.init)(jax.random.key(0))
    assert params["aux_classifier"]["branch0"]["kernel"].shape == (3, 3, 16, 16)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 64, 128, 3)), jnp.float32)
    logits = predict(segmenter, params, model_state, images)[0].logits
    assert logits["aux"].shape == logits["main"].shape
    last = params["backbone"]["layer3_0"] | {"conv1": {"kernel": jnp.zeros((3, 3, 16, 24))}}
    changed = params | {"backbone": params["backbone"] | {"layer3_0": last}}
    other = predict(segmenter, changed, model_state, images)[0].logits
    np.testing.assert_array_equal(other["aux"], logits["aux"])
    assert not np.array_equal(other["main"], logits["main"])


def create_loss(mode: str, dtype: str, **options: bool):
    """A segmenter, and its loss in training and evaluation with gradient and new state."""
    fields = {"depths": (1, 3), "widths": (8, 8), "strides": (1, 2), "dilations": (1, 1)}
    heads = {"main": AsppSettings(dilations=(1,))}
    model = with_backbone(
        dataclasses.replace(TOY, activation_dtype=dtype, heads=heads),
        **fields,
        stem_widths=(8, 8),
        batch_norm_mode=mode,
        **{"rematerialise": False, "scan_blocks": False, **options},
    )
    segmenter = models.create_segmenter(model, 16)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3)), jnp.float32)

    def loss(params, model_state):
        outputs, new_state = segmenter.apply(params, model_state, images, train=True)
        evaluated, _ = segmenter.apply(params, model_state, images, train=False)
        mean = jnp.mean(outputs.logits["main"] ** 2) + jnp.mean(evaluated.logits["main"])
        return mean, new_state

    return segmenter, jax.value_and_grad(loss, has_aux=True)


@functools.cache
def compute_plainly(mode: str, dtype: str):
    """Initial variables, and what the blocks compute one after the other."""
    segmenter, compute = create_loss(mode, dtype)
    variables = jax.jit(segmenter.init)(jax.random.key(0))
    return variables, jax.jit(compute)(*variables)


@pytest.mark.parametrize("mode", ["running", "batch"])
@pytest.mark.parametrize(
    ("options", "dtype", "primitives"),
    [
        ({"rematerialise": True}, "float32", ["remat"]),
        ({"scan_blocks": True}, "float32", ["scan"]),
        ({"rematerialise": True, "scan_blocks": True}, "float32", ["remat", "scan"]),
        ({"scan_blocks": True}, "bfloat16", ["scan"]),
    ],
    ids=["rematerialise", "scan", "both", "scan in bfloat16"],
)
def test_how_it_is_computed_changes_no_value(mode, options, dtype, primitives):
    variables, expected = compute_plainly(mode, dtype)
    segmenter, compute = create_loss(mode, dtype, **options)
    others = jax.jit(segmenter.init)(jax.random.key(0))
    for ours, theirs in zip(jax.tree.leaves(others), jax.tree.leaves(variables), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    traced = jax.jit(compute).trace(*variables)
    assert all(name in str(traced.jaxpr) for name in primitives)
    actual = traced.lower().compile()(*variables)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        if dtype == "float32":
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
        else:  # Eight bits of an activation, of which small gradients are sums.
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2**-6 * np.abs(theirs).max())


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(describe_parameters(), indent=1) + "\n")
