"""Reads and writes .pth files; the only module that uses PyTorch."""

import collections
import dataclasses
import hashlib
import importlib
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from alp_jax.errors import UserError
from data_prep.convert_weights.layouts import COUNTER

# Entries that hold the state dict if training scripts save more than that.
_WRAPPERS = ("state_dict", "model")


@dataclasses.dataclass(frozen=True)
class StateDict:
    """The content of a .pth file.

    Attributes:
      tensors: key -> array, in the file's order.
      wrapper: name of the entry that held the tensors, or None.
      dropped: names of the other entries.
      sha256: SHA-256 of the file.
    """

    tensors: dict[str, np.ndarray]
    wrapper: str | None
    dropped: tuple[str, ...]
    sha256: str


def read(path: pathlib.Path) -> StateDict:
    """Reads a state dict without running code from the file.

    Raises:
      UserError: if the file is unreadable, damaged or unsafe, is not a state dict, or holds numbers
        of another type than float32 (int64 for batch norm's counters).
    """
    torch = _import_torch()
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        sha256 = sha256_of(path)
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
    wrapper = None
    if isinstance(content, Mapping):
        wrapper = next((key for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
    tensors = content if wrapper is None else content[wrapper]
    dropped = () if wrapper is None else tuple(str(key) for key in content if key != wrapper)
    return StateDict(_to_arrays(path, torch, tensors), wrapper, dropped, sha256)


def _to_arrays(path: pathlib.Path, torch: Any, tensors: Any) -> dict[str, np.ndarray]:
    if not isinstance(tensors, Mapping) or not tensors:
        raise UserError(
            f"{path} holds {type(tensors).__name__}: expected a state dict, tensors by name; save "
            "it with torch.save(model.state_dict(), FILE)."
        )
    for key, tensor in tensors.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            raise UserError(
                f"{path} holds {type(tensor).__name__} as {key!r}: expected a state dict, tensors "
                "by name, at its top or in its entry state_dict or model; save that alone."
            )
        expected = torch.int64 if key.endswith(COUNTER) else torch.float32
        if tensor.dtype != expected:
            # Conversion from another type would not come back as the same bits.
            raise UserError(
                f"{key} in {path} is {tensor.dtype}: expected {expected}; convert it and save the "
                "file again."
            )
    return {key: tensor.detach().numpy() for key, tensor in tensors.items()}


def write(path: pathlib.Path, tensors: Mapping[str, np.ndarray], wrapper: str | None) -> str:
    """Writes a state dict atomically; returns the SHA-256 of the file.

    Raises:
      UserError: if the file cannot be written.
    """
    torch = _import_torch()
    content: dict[str, Any] = collections.OrderedDict(
        (key, torch.from_numpy(np.array(array, order="C"))) for key, array in tensors.items()
    )
    if wrapper is not None:
        content = {wrapper: content}
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The published code needs PyTorch 0.4 to 1.2, which only reads the old format.
        torch.save(content, temporary, _use_new_zipfile_serialization=False)
        os.replace(temporary, path)
        return sha256_of(path)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"Cannot write {path} ({error}): give an --output where you may write."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: pathlib.Path) -> str:
    """Computes the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _import_torch() -> Any:
    # Imported by name, so that types are checked in the same way without PyTorch.
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise UserError(
            "Weights of PyTorch are to be read or written, which needs PyTorch: "
            "pip install 'alp_jax[convert]'."
        ) from error
