"""Recognises files that hold no weights which can be read here, by their first bytes.

Synopsis:

  kind = identify(path)      # SAFETENSORS, or None for what PyTorch may read
"""

import os
import pathlib
import zipfile

from alp_jax.errors import UserError

SAFETENSORS = "safetensors"

_SAVE_AGAIN = "read it with its own library, and save its tensors by name with safetensors"
_EXTRACT = "extract it, and give the file of weights that is inside"
# (offset, bytes there, description, what to do).
_MAGIC = (
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself",
     "fetch the file with git lfs pull"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes", _SAVE_AGAIN),
    (0, b"\x93NUMPY", "an array of NumPy", _SAVE_AGAIN),
    (0, b"GGUF", "a GGUF file of llama.cpp", _SAVE_AGAIN),
    (4, b"TFL3", "a model of TensorFlow Lite", _SAVE_AGAIN),
    (257, b"ustar", "an archive (tar)", _EXTRACT),
    (0, b"\x1f\x8b", "an archive (gzip)", _EXTRACT),
    (0, b"BZh", "an archive (bzip2)", _EXTRACT),
    (0, b"\xfd7zXZ", "an archive (xz)", _EXTRACT),
    (0, b"7z\xbc\xaf", "an archive (7z)", _EXTRACT),
    (0, b"Rar!", "an archive (rar)", _EXTRACT),
)  # fmt: skip
_WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")
_TENSORFLOW_INDEX = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # The last bytes of a checkpoint's index.
_TENSORFLOW = "a part of a checkpoint of TensorFlow"


def identify(path: pathlib.Path) -> str | None:
    """Returns SAFETENSORS, or None for a file that PyTorch may read.

    Raises:
      UserError: if the file is of another kind, which is said, or cannot be opened.
    """
    try:
        with path.open("rb") as file:
            start = file.read(1024)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(_TENSORFLOW_INDEX)))
            end = file.read()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): expected a file of weights; make it "
            "readable, or give another."
        ) from error
    # A header in JSON after its length, in eight bytes.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return SAFETENSORS
    found = _describe(path, start, end)
    if found is not None:
        what, remedy = found
        raise UserError(f"{path} is {what}: expected weights of PyTorch; {remedy}.")
    return SAFETENSORS if path.suffix == f".{SAFETENSORS}" else None


def _describe(path: pathlib.Path, start: bytes, end: bytes) -> tuple[str, str] | None:
    """Describes a file of another kind, and says what to do; returns None for any other file."""
    for offset, magic, what, remedy in _MAGIC:
        if start[offset:].startswith(magic):
            return what, remedy
    text = start.lstrip().lower()
    name = path.name
    if not start:
        return "empty", "copy or download it again"
    if text.startswith(_WEB_PAGE):
        return "a web page, not the file itself", "download it with the page's own link to the file"
    if text.startswith((b"{", b"[")):
        return "JSON, such as an index or a configuration", "give the file of weights beside it"
    if end == _TENSORFLOW_INDEX or ".ckpt.data-" in name or name.endswith(".ckpt.meta"):
        return _TENSORFLOW, _SAVE_AGAIN
    if path.suffix == ".onnx" or (start[:1] == b"\x08" and start[2:3] == b"\x12"):
        return "a program in ONNX", "give the .pth file that it was exported from"
    if start.startswith(b"PK\x03\x04"):
        return _describe_zip(path)
    return None


def _describe_zip(path: pathlib.Path) -> tuple[str, str] | None:
    """Describes a zip file that torch.save did not write; returns None for one that it did."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return None  # PyTorch's error says that it is damaged.
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        return (
            "a TorchScript program",
            "save its weights alone: torch.save(torch.jit.load(FILE).state_dict(), OTHER_FILE)",
        )
    if any(name.endswith("data.pkl") for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of arrays of NumPy", _SAVE_AGAIN
    if "model.weights.h5" in names:
        return "a model of Keras", _SAVE_AGAIN
    return "a zip archive", _EXTRACT
