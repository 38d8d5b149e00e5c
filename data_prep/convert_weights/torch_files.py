"""Reads and writes .pth files; the only module that uses PyTorch."""

import collections
import importlib
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from alp_jax.errors import UserError
from data_prep.convert_weights import entries
from data_prep.convert_weights.state_dict import HALF, StateDict


def read(path: pathlib.Path, entry: str | None) -> StateDict:
    """Reads a state dict without running code from the file.

    Args:
      path: the .pth file.
      entry: the entry that holds it, as --entry; None: the only one.
    Raises:
      UserError: if the file is unreadable, damaged or unsafe, or not a state dict.
    """
    torch = _import_torch()
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises many types for damaged files.
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise UserError(
                f"{path} asks to load {code[1]}, which could run code: expected tensors by name "
                "alone; save it again where you trust it, with torch.save(model.state_dict(), "
                "FILE)."
            ) from error
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): expected a whole .pth file as "
            "torch.save writes it; copy or download it again."
        ) from error

    def is_tensor(value: Any) -> bool:
        return isinstance(value, torch.Tensor)

    found = entries.find_entry(path, content, is_tensor, entry)
    tensors = entries.take(content, found)
    _check(path, tensors, is_tensor)
    arrays, half = {}, {}
    for key, tensor in tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype in HALF:
            half[key] = dtype
            tensor = tensor.float()
        try:
            arrays[key] = tensor.detach().numpy()
        except (TypeError, RuntimeError) as error:
            raise UserError(
                f"{key} in {path} is a tensor of {dtype} that NumPy cannot hold (sparse, quantised "
                "or without values): expected float32, float16 or bfloat16; convert it and save "
                "the file again."
            ) from error
    return StateDict(arrays, half, found, entries.list_others(content, found))


def _check(path: pathlib.Path, tensors: Any, is_tensor: entries.IsTensor) -> None:
    """Refuses what is no state dict."""
    if not isinstance(tensors, Mapping) or not tensors:
        raise UserError(
            f"{path} holds {type(tensors).__name__}: expected a state dict, tensors by name; save "
            "it with torch.save(model.state_dict(), FILE)."
        )
    for key, tensor in tensors.items():
        if not isinstance(key, str) or not is_tensor(tensor):
            raise UserError(
                f"{path} holds {type(tensor).__name__} as {key!r}: expected a state dict, tensors "
                "by name, at its top or in an entry of its own; save that alone."
            )


def write(path: pathlib.Path, state_dict: StateDict) -> None:
    """Writes a state dict as PyTorch 0.4 and later read it.

    Raises:
      OSError, RuntimeError: if the file cannot be written.
    """
    torch = _import_torch()
    content: dict[str, Any] = collections.OrderedDict()
    for key, array in state_dict.tensors.items():
        tensor = torch.from_numpy(np.array(array, order="C"))
        half = state_dict.half.get(key)
        content[key] = tensor.to(getattr(torch, half)) if half else tensor
    for name in reversed(state_dict.entry):
        content = {name: content}
    # The published code needs PyTorch 0.4 to 1.2, which only reads the old format.
    torch.save(content, path, _use_new_zipfile_serialization=False)


def _import_torch() -> Any:
    # Imported by name, so that types are checked in the same way without PyTorch.
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise UserError(
            "Weights of PyTorch are to be read or written, which needs PyTorch: "
            "pip install 'alp_jax[convert]'."
        ) from error
