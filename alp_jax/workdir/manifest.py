"""Writes the SHA-256 checksum of every file in a folder, and verifies the files against them.

Synopsis:

  write(folder)                # SHA256SUMS, also readable by `sha256sum --check SHA256SUMS`
  fault = find_fault(folder)   # None, or a description of the fault
"""

import hashlib
import pathlib

from alp_jax.errors import describe
from alp_jax.workdir import files

FILE_NAME = "SHA256SUMS"


def write(folder: pathlib.Path) -> None:
    """Writes the manifest of a folder whose files are complete."""
    files.write_text(folder / FILE_NAME, _render(_digests(folder)))


def find_fault(folder: pathlib.Path) -> str | None:
    """Compares the files in a folder with its manifest.

    Reads every file: about a second for 1.5 GB that are in the page cache.

    Returns:
      None if exactly the listed files exist, each with its checksum; else the first fault, in a few
      words.
    """
    try:
        text = (folder / FILE_NAME).read_bytes().decode(errors="replace")
        found = _digests(folder)
    except FileNotFoundError:
        return f"{FILE_NAME} is missing"
    except OSError as error:
        return f"it cannot be read: {describe(error)}"
    if text == _render(found):
        return None
    written = dict(line.partition("  ")[::-2] for line in text.splitlines())
    for name in sorted(found.keys() | written.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in written:
            return f"{name} is not in {FILE_NAME}"
        if found[name] != written[name]:
            return f"{name} is not as it was saved"
    return f"{FILE_NAME} is not as it was saved"


def _render(digests: dict[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def _digests(folder: pathlib.Path) -> dict[str, str]:
    """Returns {path below the folder: SHA-256} of all files but the manifest, in order."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != FILE_NAME:
            with path.open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
