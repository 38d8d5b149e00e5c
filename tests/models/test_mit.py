"""MiT and SegFormer's decoder compute what transformers and the published code compute."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from alp_jax.errors import UserError
from alp_jax.models import transformer
from alp_jax.models.backbones.mit import VARIANTS, MitSettings
from alp_jax.models.decoders.segformer import SegFormerSettings
from data_prep.convert_weights import trees
from tests.models import originals, torch_foundation

WIDTHS, DEPTHS, HEAD_WIDTH, NUM_CLASSES = (4, 8, 20, 16), (1, 2, 1, 1), 8, 3
PUBLISHED = {
    "mit_b0": ((32, 64, 160, 256), (2, 2, 2, 2)),
    "mit_b1": ((64, 128, 320, 512), (2, 2, 2, 2)),
    "mit_b2": ((64, 128, 320, 512), (3, 4, 6, 3)),
    "mit_b3": ((64, 128, 320, 512), (3, 4, 18, 3)),
    "mit_b4": ((64, 128, 320, 512), (3, 8, 27, 3)),
    "mit_b5": ((64, 128, 320, 512), (3, 6, 40, 3)),
}


def get_shapes(settings: MitSettings):
    images = jax.ShapeDtypeStruct((1, *settings.init_size, 3), jnp.float32)
    init = functools.partial(settings.create(None).init, train=False)
    return jax.eval_shape(init, jax.random.key(0), images)["params"]


def test_features_are_the_published_networks():
    """Without loops over blocks; gradients are compared with transformers below."""
    network = torch_foundation.Mit(WIDTHS, DEPTHS)
    originals.randomise(network)
    tensors = originals.save(network)
    layout, model = originals.read(tensors)
    assert layout == "mit"
    assert (model.backbone.widths, model.backbone.depths) == (WIDTHS, DEPTHS)
    params = originals.convert(tensors, layout, model, get_shapes(model.backbone))
    images = originals.draw(2, 32, 64, 3)
    module = dataclasses.replace(model.backbone, scan_blocks=False).create(None)
    actual = jax.jit(functools.partial(module.apply, train=False))({"params": params}, images)
    with torch.no_grad():
        expected = network(originals.to_torch(images))
    originals.assert_same_outputs(actual, expected)


def to_head(tensors: originals.Tensors) -> dict:
    """Converts the decoder of a file of transformers to our tree of parameters."""

    def take(name: str, *leaves: str) -> dict:
        found = {leaf: tensors[f"decode_head.{name}.{leaf}"].numpy() for leaf in leaves}
        kernel = found["weight"]
        shaped = kernel.reshape(*kernel.shape[:2], 1, 1).transpose(2, 3, 1, 0)
        return {"kernel": shaped, **{leaf: found[leaf] for leaf in leaves[1:]}}

    norm = {"scale": "weight", "bias": "bias"}
    return {
        "embed": {f"stage{i + 1}": take(f"linear_c.{i}.proj", "weight", "bias") for i in range(4)},
        "fuse": {
            "conv": take("linear_fuse", "weight"),
            "bn": {k: tensors[f"decode_head.batch_norm.{v}"].numpy() for k, v in norm.items()},
        },
        "out": take("classifier", "weight", "bias"),
    }


# Neither size is a multiple of 32, and stages have odd sizes.
@pytest.mark.parametrize(("size", "rematerialise"), [((38, 70), False), ((64, 39), True)])
def test_segformer_is_that_of_transformers(size, rematerialise):
    config = transformers.SegformerConfig(
        depths=DEPTHS, hidden_sizes=WIDTHS, decoder_hidden_size=HEAD_WIDTH, num_labels=NUM_CLASSES
    )
    network = transformers.SegformerForSemanticSegmentation(config).eval()
    originals.randomise(network)
    tensors = originals.save(network)
    layout, model = originals.read(tensors)
    assert layout == "mit_transformers"
    statistics = {
        leaf: tensors[f"decode_head.batch_norm.running_{leaf}"].numpy() for leaf in ("mean", "var")
    }
    head = SegFormerSettings(width=HEAD_WIDTH).create(NUM_CLASSES, None)
    backbone = dataclasses.replace(model.backbone, rematerialise=rematerialise).create(None)
    images = originals.draw(2, *size, 3)

    def apply(params):
        features = backbone.apply({"params": params["backbone"]}, images, train=False)
        variables = {"params": params["head"], "batch_stats": {"fuse": {"bn": statistics}}}
        return [*features, head.apply(variables, tuple(features), train=False)]

    def to_tree(tensors):
        shapes = get_shapes(model.backbone)
        return {
            "backbone": originals.convert(tensors, layout, model, shapes),
            "head": to_head(tensors),
        }

    outputs = network(originals.to_torch(images), output_hidden_states=True)
    originals.assert_same(
        apply,
        to_tree(tensors),
        [*outputs.hidden_states, outputs.logits],
        lambda: to_tree(originals.take_gradients(network)),
    )


def test_variants_are_the_published_ones():
    found = {
        name: (fields["widths"], fields["depths"])
        for name, fields in VARIANTS.items()
        if name != "tiny"
    }
    assert found == PUBLISHED
    default = MitSettings()
    assert (default.widths, default.depths) == PUBLISHED["mit_b5"]


# A network of another depth has the same tensors in more blocks.
@pytest.mark.parametrize(("variant", "millions"), [("mit_b0", 3.3), ("mit_b2", 24.2)])
def test_variants_have_the_tensors_of_the_published_networks(variant, millions):
    settings = MitSettings(**VARIANTS[variant])
    with torch.device("meta"):
        network = torch_foundation.Mit(*PUBLISHED[variant])
    del network.head
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    actual = {
        settings.published_key(tuple(entry.key for entry in path)): trees.published_shape(
            path, leaf.shape
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(get_shapes(settings))
    }
    assert actual == expected
    assert round(sum(np.prod(shape) for shape in expected.values()) / 1e6, 1) == millions


def test_a_branch_is_skipped_in_whole_images():
    branch = jnp.asarray(np.random.default_rng(0).normal(size=(4000, 2, 3, 1)))
    for rate in (0.0, 0.25):
        dropped = transformer.drop_path(branch, jnp.float32(rate), jax.random.key(0))
        kept = np.any(dropped != 0, axis=(1, 2, 3))
        np.testing.assert_allclose(dropped[kept], branch[kept] / (1 - rate), rtol=1e-6)
        assert kept.mean() == pytest.approx(1 - rate, abs=0.03)


def test_only_training_skips_branches_and_the_key_decides_which():
    fields = {**VARIANTS["tiny"], "drop_path_rate": 0.9, "depths": (1, 2, 1, 1)}
    settings = MitSettings(**fields, rematerialise=True)
    module = settings.create(None)
    images = originals.draw(2, 32, 32, 3)
    params = {"params": originals.draw_params(get_shapes(settings))}

    @jax.jit
    def train(key):
        return module.apply(params, images, train=True, rngs={"dropout": key})

    evaluated = jax.jit(functools.partial(module.apply, train=False))(params, images)
    first, again, other = (train(jax.random.key(seed)) for seed in (0, 0, 1))
    # The rate is 0 in the first block, and the first stage has only that one.
    np.testing.assert_allclose(first[0], evaluated[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(first[-1], again[-1])
    assert np.any(first[-1] != other[-1])
    assert np.any(first[-1] != evaluated[-1])


def test_groups_are_those_of_layer_wise_decay():
    settings = MitSettings()
    groups = {path: settings.group(path) for path in [
        ("patch_embed1_proj", "kernel"), ("patch_embed1_norm", "scale"),
        ("block2_0", "norm1", "bias"), ("block3_39", "attn_norm", "scale"),
        ("block3_39", "mlp_dwconv", "bias"), ("norm4", "scale"),
    ]}  # fmt: skip
    assert [group.depth for group in groups.values()] == [0, 0, 1, 2, 2, 3]
    # Published configurations exempt what has "norm" in its name, and no bias.
    assert [group.decays for group in groups.values()] == [True, False, False, False, True, False]
    assert settings.group(("head", "kernel")) is None


def test_heads_that_cannot_share_the_channels_are_refused():
    with pytest.raises(UserError, match=r"b.num_heads is \[1, 2, 5, 7\]: expected divisors of b.w"):
        MitSettings(num_heads=(1, 2, 5, 7)).check("b")
