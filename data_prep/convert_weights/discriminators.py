"""Converts published discriminators to the parameters that a term of alignment owns, and back.

Synopsis:

  found = read("main", path, num_classes=19)      # found.params, found.widths
  state_dict = found.origin.restore(params)

AdvEnt's file is the state dict of a Sequential: 0.weight, 0.bias, 2.weight, ... AdaptSegNet's and
CLAN's name their layers conv1 to conv4 and classifier. Both are 4x4 convolutions of stride 2 with
leaky ReLUs between, as `alp_jax.models.discriminator` is, and give the logit of the target domain.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from alp_jax.errors import UserError, shorten
from alp_jax.workdir import files
from data_prep.convert_weights import soundness, trees, weight_files
from data_prep.convert_weights.prefixes import find_common
from data_prep.convert_weights.state_dict import StateDict

FILE_NAME = "discriminators.json"
_SIZE = 4  # Of every kernel.
# Naming of the layers -> the maps that the discriminators of such files were trained on.
ALIGNED_MAPS = {"advent": "normalized_self_information", "adaptsegnet": "softmax"}
# Layout of a segmenter -> naming of the layers in its discriminators' files.
NAMINGS = {
    **dict.fromkeys(("advent", "advent_single"), "advent"),
    **dict.fromkeys(("adaptsegnet", "adaptsegnet_single", "clan"), "adaptsegnet"),
}


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a discriminator came from, so that exporting restores its file's bits.

    Attributes:
      source: name of the file.
      sha256: SHA-256 of the file.
      naming: "advent" or "adaptsegnet".
      prefix: prefix of all keys.
      entry: names from the file's top down to the state dict.
      keys: whole keys, in the file's order.
      half: key of every tensor that is in half precision in the file -> its type.
    """

    source: str
    sha256: str
    naming: str
    prefix: str
    entry: tuple[str, ...]
    keys: tuple[str, ...]
    half: dict[str, str]

    def restore(self, params: trees.PyTree) -> StateDict:
        """Names and orders parameters as in the file."""
        tensors = to_published(params, self.naming, self.prefix)
        return StateDict({key: tensors[key] for key in self.keys}, self.half, self.entry)


@dataclasses.dataclass(frozen=True)
class Converted:
    """A discriminator of a file.

    Attributes:
      params: parameters as the term has them: {"conv0": {"kernel", "bias"}, ...}.
      widths: channels of all layers but the last.
      origin: where it came from.
    """

    params: trees.PyTree
    widths: tuple[int, ...]
    origin: Origin

    @property
    def aligned_map(self) -> str:
        """The maps that it was trained on, as `aligned_map` of the term."""
        return ALIGNED_MAPS[self.origin.naming]


def read(path: pathlib.Path, *, num_classes: int) -> Converted:
    """Reads a discriminator of maps with `num_classes` channels.

    Raises:
      UserError: if the file holds no such discriminator, or numbers that no sound network has.
    """
    state_dict = weight_files.read(path, None)
    prefix = find_common(state_dict.tensors)
    tensors = {key.removeprefix(prefix): array for key, array in state_dict.tensors.items()}
    naming, layers = _name_layers(path, tensors, prefix)
    kernels = [tensors[f"{layer}.weight"].shape for layer in layers]
    _check_shapes(path, kernels, [tensors[f"{layer}.bias"].shape for layer in layers], num_classes)
    paths = {f"{prefix}{key}": f"{where}" for key, where in _list_keys(layers).items()}
    soundness.check(path, state_dict, paths, left_out=())
    params = {
        f"conv{i}": {
            leaf: trees.from_published((jax.tree_util.DictKey(leaf),), tensors[f"{layer}.{name}"])
            for leaf, name in _LEAVES.items()
        }
        for i, layer in enumerate(layers)
    }
    origin = Origin(
        source=path.name,
        sha256=weight_files.sha256_of(path),
        naming=naming,
        prefix=prefix,
        entry=state_dict.entry,
        keys=tuple(state_dict.tensors),
        half=state_dict.half,
    )
    return Converted(params, tuple(shape[0] for shape in kernels[:-1]), origin)


_LEAVES = {"kernel": "weight", "bias": "bias"}


def _list_layers(naming: str, count: int) -> list[str]:
    """Lists the names of the layers, first to last."""
    if naming == "advent":
        return [str(2 * i) for i in range(count)]
    return [*(f"conv{i}" for i in range(1, count)), "classifier"]


def _list_keys(layers: list[str]) -> dict[str, str]:
    """Maps the key of every tensor to its path in our tree."""
    return {
        f"{layer}.{name}": f"conv{i}/{leaf}"
        for i, layer in enumerate(layers)
        for leaf, name in _LEAVES.items()
    }


def _name_layers(
    path: pathlib.Path, tensors: Mapping[str, np.ndarray], prefix: str
) -> tuple[str, list[str]]:
    """Returns (naming, names of the layers) of a file."""
    for naming in ALIGNED_MAPS:
        layers = _list_layers(naming, len(tensors) // 2)
        if len(layers) > 1 and _list_keys(layers).keys() == tensors.keys():
            return naming, layers
    held = shorten(sorted(prefix + key for key in tensors), 6)
    raise UserError(
        f"{path} holds no discriminator that is known ({held}): expected the layers 0, 2, 4, ... "
        "of AdvEnt, or conv1, conv2, ... and classifier of AdaptSegNet and CLAN, each with weight "
        "and bias, and nothing else."
    )


def _check_shapes(
    path: pathlib.Path,
    kernels: list[tuple[int, ...]],
    biases: list[tuple[int, ...]],
    num_classes: int,
) -> None:
    inputs = num_classes
    for i, (kernel, bias) in enumerate(zip(kernels, biases, strict=True), start=1):
        outputs = kernel[0] if i < len(kernels) else 1
        expected = (outputs, inputs, _SIZE, _SIZE)
        if i == 1 and len(kernel) == 4 and kernel[1] != num_classes:
            raise UserError(
                f"The discriminator in {path} takes maps of {kernel[1]} channels, and the network "
                f"has {num_classes} classes: expected the discriminator that was trained with this "
                "network."
            )
        if kernel != expected or bias != (outputs,):
            raise UserError(
                f"Layer {i} of the discriminator in {path} has a weight of shape {kernel} and a "
                f"bias of {bias}: expected {expected} and {(outputs,)}, a 4x4 convolution of what "
                "the layer before it gives."
            )
        inputs = outputs


def to_published(params: trees.PyTree, naming: str, prefix: str = "") -> dict[str, np.ndarray]:
    """Names parameters as a published file does: whole key -> tensor, in the file's usual order."""
    return {
        f"{prefix}{layer}.{name}": trees.to_published(
            (jax.tree_util.DictKey(leaf),), np.asarray(params[f"conv{i}"][leaf])
        )
        for i, layer in enumerate(_list_layers(naming, len(params)))
        for leaf, name in _LEAVES.items()
    }


def save(origins: Mapping[str, Origin], workdir: pathlib.Path) -> None:
    """Writes discriminators.json: key of the term -> origin; nothing without discriminators."""
    if origins:
        fields = {key: dataclasses.asdict(origin) for key, origin in origins.items()}
        files.write_json(workdir / FILE_NAME, fields)


def load(workdir: pathlib.Path) -> dict[str, Origin]:
    """Reads the origins of a workdir: key of the term -> origin; empty for the workdir of a run.

    Raises:
      UserError: if the file is damaged.
    """
    path = workdir / FILE_NAME
    if not path.exists():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        return {
            key: Origin(**o | {"entry": tuple(o["entry"]), "keys": tuple(o["keys"])})
            for key, o in found.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): expected what the conversion wrote; "
            "convert the files of weights again."
        ) from error
