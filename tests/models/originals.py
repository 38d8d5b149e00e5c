"""Compares networks with their PyTorch originals, with the same random weights."""

import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from safetensors.torch import load_file

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


def draw_params(shapes: Any) -> Any:
    """Draws parameters near those of a network that normalises: compiling its own takes seconds."""
    rng = np.random.default_rng(1)

    def fill(path: Any, leaf: Any) -> np.ndarray:
        values = rng.normal(0, 0.2, leaf.shape).astype(np.float32)
        return values + (path[-1].key in ("scale", "gamma"))

    return jax.tree_util.tree_map_with_path(fill, shapes)


def to_torch(maps: Any) -> torch.Tensor:
    """NHWC -> NCHW."""
    return torch.from_numpy(np.array(maps)).permute(0, 3, 1, 2)


def save(module: torch.nn.Module) -> Tensors:
    """Returns the tensors by the names that they have in a published file."""
    if not hasattr(module, "save_pretrained"):
        return {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)  # transformers has other names in memory.
        return load_file(f"{folder}/model.safetensors")


def take_gradients(module: torch.nn.Module) -> Tensors:
    """Returns the gradients as `save`, with zeros where there are none; ends the module's use."""
    with torch.no_grad():
        for parameter in module.parameters():
            grad = parameter.grad
            parameter.copy_(torch.zeros_like(parameter) if grad is None else grad)
    return save(module)


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
        return trees.from_published(path, trees.join([tensors[key].numpy() for key in keys]))

    return jax.tree_util.tree_map_with_path(take, shapes)


def assert_same_outputs(actual: Sequence[jax.Array], expected: Sequence[torch.Tensor]) -> None:
    """Compares outputs, NHWC and NCHW, to 1e-5 of the largest."""
    for ours, theirs in zip(actual, expected, strict=True):
        reference = theirs.detach().permute(0, 2, 3, 1).numpy()
        assert ours.shape == reference.shape
        assert np.abs(ours - reference).max() < 1e-5 * np.abs(reference).max()


def assert_same(
    apply: Callable[[Any], Sequence[jax.Array]],
    params: Any,
    expected: Sequence[torch.Tensor],
    to_tree: Callable[[], Any],
) -> None:
    """Compares outputs to 1e-5 of the largest, and gradients of a random sum of them to 1e-4.

    Args:
      apply: our parameters -> our outputs, NHWC.
      params: our parameters.
      expected: PyTorch's outputs, NCHW, with the graph to its parameters.
      to_tree: returns PyTorch's gradients as a tree like `params`; called after the backward pass.
    """
    weights = [draw(*output.permute(0, 2, 3, 1).shape) for output in expected]

    def loss(params: Any) -> Any:
        outputs = apply(params)
        products = (jnp.sum(w * out) for w, out in zip(weights, outputs, strict=True))
        return sum(products, jnp.zeros(())), outputs

    gradients, outputs = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert_same_outputs(outputs, expected)
    for weight, output in zip(weights, expected, strict=True):
        (to_torch(weight) * output).sum().backward(retain_graph=True)
    found = jax.tree_util.tree_leaves_with_path(gradients)
    for (path, ours), theirs in zip(found, jax.tree.leaves(to_tree()), strict=True):
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), jax.tree_util.keystr(
            path
        )
