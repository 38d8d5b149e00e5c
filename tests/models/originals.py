"""Compares networks with their PyTorch originals: the same random weights, outputs and gradients."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from alp_jax import models
from alp_jax.models.segmenter import BACKBONE
from alp_jax.models.settings import ModelSettings
from data_prep.convert_weights import trees
from data_prep.convert_weights.layouts import LAYOUTS, keys_of
from data_prep.convert_weights.recognition import PublishedFile

Tensors = dict[str, torch.Tensor]


def randomise(module: torch.nn.Module) -> None:
    """Moves every parameter and running statistic away from its initial value."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.add_(0.05 * torch.randn_like(tensor))
            if name.endswith("running_var"):
                tensor.abs_()


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def to_torch(maps: np.ndarray) -> torch.Tensor:
    """NHWC -> NCHW."""
    return torch.from_numpy(np.asarray(maps)).permute(0, 3, 1, 2)


def read(tensors: Tensors) -> tuple[str, ModelSettings]:
    """Recognises a file by the names and shapes of its tensors: its layout and network."""
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    file = PublishedFile(pathlib.Path("file"), shapes)
    name = file.recognise()
    return name, file.read_model(LAYOUTS[name])


def convert(tensors: Tensors, name: str, model: ModelSettings, shapes: Any) -> Any:
    """Converts the tensors of a file, or their gradients, to a tree of the backbone."""

    def take(path: Any, _: Any) -> np.ndarray:
        keys = keys_of(LAYOUTS[name], model, (jax.tree_util.DictKey(BACKBONE), *path))
        found = [tensors[key].detach().numpy() for key in keys]
        return trees.from_published(path, trees.join(found))

    return jax.tree_util.tree_map_with_path(take, shapes)


def assert_same(
    actual: list[jax.Array],
    expected: list[torch.Tensor],
    apply: Callable[[Any], list[jax.Array]],
    params: Any,
    to_tree: Callable[[], Any],
) -> None:
    """Compares outputs, and the gradients of a random sum of them.

    Args:
      actual: our outputs, NHWC.
      expected: PyTorch's, NCHW, with the graph of their parameters.
      apply: params -> our outputs.
      params: our parameters.
      to_tree: returns PyTorch's gradients as a tree like params, after the backward pass.
    """
    assert len(actual) == len(expected)
    weights = [draw(*output.shape) for output in actual]
    for ours, theirs in zip(actual, expected, strict=True):
        reference = theirs.detach().permute(0, 2, 3, 1).numpy()
        assert ours.shape == reference.shape
        assert np.abs(ours - reference).max() < 1e-5 * np.abs(reference).max()

    def loss(params: Any) -> jax.Array:
        return sum(jnp.sum(w * out) for w, out in zip(weights, apply(params), strict=True))

    gradients = jax.jit(jax.grad(loss))(params)
    sum((to_torch(w) * out).sum() for w, out in zip(weights, expected, strict=True)).backward()
    reference = to_tree()
    for (path, ours), theirs in zip(
        jax.tree_util.tree_leaves_with_path(gradients), jax.tree.leaves(reference), strict=True
    ):
        scale = max(np.abs(theirs).max(), 1e-3)
        assert np.abs(ours - theirs).max() < 1e-4 * scale, jax.tree_util.keystr(path)
