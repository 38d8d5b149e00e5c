"""Reads and writes .safetensors files; the only module that uses the library safetensors."""

import importlib
import pathlib
from typing import Any

import ml_dtypes
import numpy as np

from alp_jax.errors import UserError, describe
from data_prep.convert_weights.state_dict import StateDict

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8,
    "BOOL": np.bool_,
}  # fmt: skip
_HALF = {"F16": "float16", "BF16": "bfloat16"}


def read(path: pathlib.Path) -> StateDict:
    """Reads a .safetensors file, which cannot hold code.

    Raises:
      UserError: if the file is damaged, empty, or holds numbers of a type that is not known.
    """
    library = _import_library()
    try:
        found = library.deserialize(path.read_bytes())
    except Exception as error:  # OSError, and the library's own type.
        raise UserError(
            f"{path} cannot be read ({describe(error)}): expected a whole .safetensors file; copy "
            "or download it again."
        ) from error
    if not found:
        raise UserError(f"{path} holds no tensors: expected a state dict; give another file.")
    arrays, half = {}, {}
    for key, held in found:
        name = held["dtype"]
        if name not in _DTYPES:
            raise UserError(
                f"{key} in {path} is of the type {name}: expected F32, F16 or BF16; convert it and "
                "save the file again."
            )
        array = np.frombuffer(held["data"], _DTYPES[name]).reshape(held["shape"])
        if name in _HALF:
            half[key] = _HALF[name]
            array = array.astype(np.float32)
        arrays[key] = array
    return StateDict(arrays, half)


def write(path: pathlib.Path, state_dict: StateDict) -> None:
    """Writes a state dict; its entry has no place in such a file.

    Raises:
      OSError: if the file cannot be written.
    """
    dtypes = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
    arrays = {}
    for key, array in state_dict.tensors.items():
        half = state_dict.half.get(key)
        arrays[key] = np.array(array, dtypes[half] if half else None, order="C")
    _import_library("safetensors.numpy").save_file(arrays, path)


def _import_library(name: str = "safetensors") -> Any:
    # Imported by name, as PyTorch is.
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            "A .safetensors file is to be read or written, which needs the library of that name: "
            "pip install 'alp_jax[convert]', or pip install safetensors."
        ) from error
