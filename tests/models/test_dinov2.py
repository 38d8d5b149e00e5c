"""DINOv2 computes what its published code, transformers and timm compute from the same weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from alp_jax.errors import UserError
from alp_jax.models import vit
from alp_jax.models.backbones.dinov2 import VARIANTS, DinoV2Settings
from data_prep.convert_weights import trees
from tests.models import originals, torch_foundation

WIDTH, DEPTH, NUM_HEADS, GRID = 128, 2, 2, 37
# (height, width) in pixels; the position embeddings have another grid than both.
SIZES = {"wide": (28, 70), "high": (84, 42)}


def create_original(layout: str) -> torch.nn.Module:
    num_registers = 4 if "registers" in layout else 0
    torch.manual_seed(0)
    if "transformers" in layout:
        kind = "Dinov2WithRegisters" if num_registers else "Dinov2"
        config = getattr(transformers, f"{kind}Config")(
            hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=NUM_HEADS,
            image_size=14 * GRID, patch_size=14,
        )  # fmt: skip
        network = getattr(transformers, f"{kind}Model")(config)
    else:
        of = "timm" if "timm" in layout else "facebook"
        network = torch_foundation.DinoV2(of, WIDTH, DEPTH, NUM_HEADS, num_registers)
    originals.randomise(network)
    return network.eval()


def compute_original(
    network: torch.nn.Module, images: np.ndarray, **kwargs: torch.Tensor
) -> list[torch.Tensor]:
    """Computes the features of the last layer, for transformers of the last two layers."""
    if isinstance(network, torch_foundation.DinoV2):
        return [network(originals.to_torch(images))]
    outputs = network(originals.to_torch(images), output_hidden_states=True, **kwargs)
    grid = [side // 14 for side in images.shape[1:3]]
    layers = [network.layernorm(tokens) for tokens in outputs.hidden_states[-2:]]
    patches = [tokens[:, -grid[0] * grid[1] :] for tokens in layers]
    return [tokens.transpose(1, 2).unflatten(2, grid) for tokens in patches]


def read(network: torch.nn.Module, **changed: object):
    """Returns the layout of the network's file, its settings, module and parameters here."""
    tensors = originals.save(network)
    layout, model = originals.read(tensors)
    if not isinstance(network, torch_foundation.DinoV2):
        changed["output_layers"] = (-2, -1)
    module = dataclasses.replace(model.backbone, **changed).create(None)
    shapes = get_shapes(model.backbone)
    return layout, model, module, originals.convert(tensors, layout, model, shapes)


def get_shapes(settings: DinoV2Settings):
    images = jax.ShapeDtypeStruct((1, *settings.init_size, 3), jnp.float32)
    init = functools.partial(settings.create(None).init, train=False)
    return jax.eval_shape(init, jax.random.key(0), images)["params"]


# The grid of the position embeddings has 37 x 37 patches, these images 2 x 5 and 6 x 3.
@pytest.mark.parametrize(
    ("layout", "size", "changed"),
    [
        ("dinov2", "wide", {}),
        ("dinov2", "high", {"scan_blocks": False}),
        ("dinov2_registers", "high", {"rematerialise": True}),
        ("dinov2_transformers", "wide", {}),
        ("dinov2_registers_transformers", "wide", {}),
    ],
)
def test_features_and_gradients_are_the_originals(layout, size, changed):
    network = create_original(layout)
    found, model, module, params = read(network, **changed)
    assert found == layout
    images = originals.draw(2, *SIZES[size], 3)
    expected = compute_original(network, images)
    originals.assert_same(
        lambda params: module.apply({"params": params}, images, train=True),
        params,
        expected,
        lambda: originals.convert(originals.take_gradients(network), layout, model, params),
    )


@pytest.mark.parametrize(
    ("layout", "size"), [("dinov2_timm", "high"), ("dinov2_registers_timm", "wide")]
)
def test_features_are_those_of_timm(layout, size):
    network = create_original(layout)
    found, _, module, params = read(network)
    assert found == layout
    images = originals.draw(1, *SIZES[size], 3)
    actual = jax.jit(functools.partial(module.apply, train=False))({"params": params}, images)
    with torch.no_grad():
        originals.assert_same_outputs(actual, compute_original(network, images))


def test_the_grid_of_the_weights_needs_no_resize():
    positions = jnp.asarray(originals.draw(1, GRID**2, 3))
    for interpolation in ("offset", "plain", "antialiased"):
        resized = vit.resize_positions(positions, (GRID, GRID), interpolation)
        np.testing.assert_array_equal(resized, positions.reshape(1, GRID, GRID, 3))


def test_the_mask_token_replaces_patches():
    network = create_original("dinov2_transformers")
    *_, module, params = read(network)
    images = originals.draw(2, *SIZES["wide"], 3)
    mask = np.random.default_rng(1).random((2, 2, 5)) < 0.5
    with torch.no_grad():
        expected = compute_original(
            network, images, bool_masked_pos=torch.from_numpy(mask).flatten(1)
        )
    apply = jax.jit(functools.partial(module.apply, train=True))
    originals.assert_same_outputs(apply({"params": params}, images, token_mask=mask), expected)
    *_, without, params = read(create_original("dinov2_timm"))
    with pytest.raises(UserError, match="The network has no mask token"):
        without.apply({"params": params}, images, train=True, token_mask=mask)


@pytest.mark.parametrize(
    "variant", ["dinov2_vits14", "dinov2_vits14_reg", "dinov2_vitb14", "dinov2_vitl14"]
)
def test_variants_have_the_tensors_of_the_published_networks(variant):
    settings = DinoV2Settings(**VARIANTS[variant])
    width, depth, num_heads = {
        "s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16),
    }[variant[10]]  # fmt: skip
    with torch.device("meta"):
        num_registers = 4 if variant.endswith("_reg") else 0
        network = torch_foundation.DinoV2("facebook", width, depth, num_heads, num_registers)
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    actual = {
        settings.published_key(tuple(entry.key for entry in path)): trees.published_shape(
            path, leaf.shape
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(get_shapes(settings))
    }
    assert actual == expected
    # Of the files, as their authors count them: 22, 87 and 304 million.
    count = sum(np.prod(shape) for shape in expected.values())
    assert round(count / 1e6) in (22, 87, 304)
    assert settings.num_heads == num_heads


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((1024, 512), 1.1, (1120, 560)), ((518, 28), 1.0, (518, 28)), ((512, 519), 1.0, (518, 532))],
)
def test_images_are_resized_as_vfm_uda_does(size, scale, expected):
    assert vit.fit_patches(size, 14, scale) == expected


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(UserError, match="Images of 10 x 99 pixels are smaller than a patch of 14"):
        vit.fit_patches((10, 99), 14, 1.1)


def test_any_size_is_resized_before_it_is_cut():
    settings = DinoV2Settings(**VARIANTS["tiny"], input_scale=1.5)
    images = jax.ShapeDtypeStruct((1, 12, 21, 3), jnp.float32)
    apply = functools.partial(settings.create(None).apply, train=False)
    (features,) = jax.eval_shape(apply, {"params": get_shapes(settings)}, images)
    assert features.shape == (1, 2, 3, settings.width)


def test_groups_are_those_of_layer_wise_decay():
    settings = DinoV2Settings(**VARIANTS["dinov2_vits14_reg"])
    groups = {path: settings.group(path) for path in [
        ("cls_token",), ("pos_embed",), ("register_tokens",), ("mask_token",),
        ("patch_embed_proj", "kernel"), ("blocks_0", "norm1", "scale"),
        ("blocks_11", "attn_qkv", "kernel"), ("blocks_11", "mlp_fc1", "bias"),
        ("blocks_11", "ls1", "gamma"), ("norm", "bias"),
    ]}  # fmt: skip
    assert [group.depth for group in groups.values()] == [0, 0, 0, 0, 0, 1, 12, 12, 12, 13]
    assert {path for path, group in groups.items() if group.decays} == {
        ("patch_embed_proj", "kernel"), ("blocks_11", "attn_qkv", "kernel"),
    }  # fmt: skip
    assert settings.group(("head", "kernel")) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_heads": 5}, "b.num_heads is 5: expected a divisor of b.width, 768"),
        ({"output_layers": (-13,)}, r"b.output_layers is \[-13\]: expected different layers from"),
        ({"output_layers": (-1, -3)}, "expected different layers from -12 to -1, the first one f"),
    ],
)
def test_a_network_that_cannot_be_is_refused(changed, message):
    with pytest.raises(UserError, match=message):
        DinoV2Settings(**changed).check("b")
