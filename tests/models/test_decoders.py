"""The decoders of DAFormer and VFM-UDA compute what their published code computes."""

import jax
import numpy as np
import pytest
import torch

from alp_jax.models.decoders.daformer import DaFormerSettings
from alp_jax.models.decoders.light import LightSettings
from tests.models import originals, torch_foundation

CHANNELS, WIDTH, NUM_CLASSES = (6, 5), 8, 3


def take(conv: torch.nn.Module, key: str = "data") -> dict:
    """Converts a convolution or linear layer; `key` is data or grad."""
    kernel = getattr(conv.weight, key).numpy()
    found = {"kernel": kernel.reshape(*kernel.shape[:2], *(kernel.shape[2:] or (1, 1)))}
    found["kernel"] = found["kernel"].transpose(2, 3, 1, 0)
    return found if conv.bias is None else {**found, "bias": getattr(conv.bias, key).numpy()}


def take_norm(norm: torch.nn.Module, key: str) -> dict:
    return {"scale": getattr(norm.weight, key).numpy(), "bias": getattr(norm.bias, key).numpy()}


def read_daformer(network: torch_foundation.DaFormerHead, key: str = "data") -> dict:
    def take_conv_norm(conv, norm, prefix=""):
        names = ("depth", "depth_bn") if prefix else ("conv", "bn")
        return {names[0]: take(conv, key), names[1]: take_norm(norm, key)}

    plain, (depth, point) = network.branches
    return {
        "embed": {f"stage{i + 1}": take(layer, key) for i, layer in enumerate(network.embed)},
        "branch0": take_conv_norm(*plain[:2]),
        "branch1": {**take_conv_norm(*depth[:2], "depth"), **take_conv_norm(*point[:2])},
        "bottleneck": take_conv_norm(*network.bottleneck[:2]),
        "out": take(network.out, key),
    }


def read_statistics(network: torch_foundation.DaFormerHead) -> dict:
    def take_both(norm):
        return {"mean": norm.running_mean.clone().numpy(), "var": norm.running_var.clone().numpy()}

    plain, (depth, point) = network.branches
    return {
        "branch0": {"bn": take_both(plain[1])},
        "branch1": {"depth_bn": take_both(depth[1]), "bn": take_both(point[1])},
        "bottleneck": {"bn": take_both(network.bottleneck[1])},
    }


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("size", [(8, 12), (5, 9)])
def test_daformers_decoder_is_the_published_one(size, train):
    network = torch_foundation.DaFormerHead(CHANNELS, WIDTH, NUM_CLASSES).train(train)
    originals.randomise(network)
    stages = (originals.draw(2, *size, CHANNELS[0]), originals.draw(2, 3, 4, CHANNELS[1]))
    settings = DaFormerSettings(width=WIDTH, dilations=(1, 2), dropout_rate=0.0)
    module = settings.create(NUM_CLASSES, None)
    params, statistics = read_daformer(network), read_statistics(network)

    def apply(params):
        variables = {"params": params, "batch_stats": statistics}
        logits, new = module.apply(variables, stages, train=train, mutable=["batch_stats"])
        leaves = jax.tree.leaves(new)
        return [logits, *(leaf.reshape(1, 1, 1, -1) for leaf in leaves)]

    logits = network([originals.to_torch(stage) for stage in stages])
    moved = jax.tree.leaves(read_statistics(network))
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(statistics), moved, strict=True)) == (
        train
    )
    expected = [torch.from_numpy(leaf).reshape(1, -1, 1, 1).requires_grad_() for leaf in moved]
    originals.assert_same(
        apply, params, [logits, *expected], lambda: read_daformer(network, "grad")
    )


@pytest.mark.parametrize("size", [(3, 5), (4, 2)])
def test_the_light_decoder_is_vfm_udas(size):
    network = torch_foundation.LightHead(16, NUM_CLASSES)
    originals.randomise(network)
    features = originals.draw(2, *size, 16)

    def to_tree(key="data"):
        def take_transposed(conv):
            return {"kernel": getattr(conv.weight, key).numpy().transpose(2, 3, 0, 1)}

        return {
            "up1": take_transposed(network[0]), "norm1": take_norm(network[1], key),
            "up2": take_transposed(network[3]), "norm2": take_norm(network[4], key),
            "conv": take(network[5], key), "norm3": take_norm(network[6], key),
            "out": take(network[7], key),
        }  # fmt: skip

    module = LightSettings().create(NUM_CLASSES, None)
    originals.assert_same(
        lambda params: [module.apply({"params": params}, (features,), train=True)],
        to_tree(),
        [network(originals.to_torch(features))],
        lambda: to_tree("grad"),
    )


def test_dropped_channels_are_drawn_for_every_image():
    settings = DaFormerSettings(width=WIDTH, dilations=(1,), dropout_rate=0.5)
    module = settings.create(NUM_CLASSES, None)
    stages = (originals.draw(2, 4, 4, 3),)
    variables = jax.jit(lambda key: module.init(key, stages, train=False))(jax.random.key(0))

    @jax.jit
    def compute(key):
        rngs = {"dropout": key}
        return module.apply(variables, stages, train=True, rngs=rngs, mutable=["batch_stats"])[0]

    first, again, other = (compute(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_frozen_batch_norm_is_in_no_optimizer():
    settings = DaFormerSettings(batch_norm_train_affine=False, batch_norm_mode="frozen")
    assert not settings.moves_statistics
    assert settings.group(("branch1", "depth_bn", "scale")).part == "frozen"
    assert settings.group(("branch1", "conv", "kernel")).part == "decoder"
    assert settings.group(("other", "kernel")) is None
