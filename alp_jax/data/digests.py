"""Identifies the content of a prepared split, so that a change is noticed.

Synopsis:

  fingerprint = read_fingerprint("datasets", "gta5/all", "train[:100]")
  describe_change(then, now)      # "" or "2,975 images then, 2,974 now"

Preparation writes a digest of the records of each split into the dataset's folder, `digests.json`:
reading all records again would take minutes. A dataset without digests is identified by its number
of records, their bytes and the meaning of its labels.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from alp_jax.data import prepared

FILE_NAME = "digests.json"
Fingerprint = dict[str, Any]


def digest(parts: Iterable[bytes]) -> str:
    """Returns 32 hexadecimal digits of the SHA-256 of some bytes, each with its length."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()[:32]


def write(folder: pathlib.Path, digests: Mapping[str, str]) -> None:
    """Writes {split: digest of its records} into the folder of a dataset."""
    (folder / FILE_NAME).write_text(json.dumps(dict(digests), indent=1) + "\n")


def read(folder: pathlib.Path) -> dict[str, str]:
    """Reads what `write` wrote; empty if there is no such file, or it is damaged."""
    try:
        return {str(k): str(v) for k, v in json.loads((folder / FILE_NAME).read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def read_fingerprint(data_dir: str, name: str, split: str) -> Fingerprint | None:
    """Reads the fingerprint of the whole splits that a split or a slice is of.

    Reads a few small files. Returns None if the dataset or the split does not exist, which whoever
    reads its records reports.
    """
    folder = prepared.find_version(data_dir, name)
    if folder is None:
        return None
    try:
        found = json.loads((folder / prepared.INFO_FILE).read_text())["splits"]
        infos = {info["name"]: info for info in found}
        names = {part.split("[")[0].strip() for part in split.split("+")}
        chosen = [infos[each] for each in sorted(names)]
        metadata = folder / "metadata.json"
        return {
            "images": sum(int(n) for info in chosen for n in info["shardLengths"]),
            "bytes": sum(int(info.get("numBytes", 0)) for info in chosen),
            "meaning": json.loads(metadata.read_text()) if metadata.exists() else None,
            "digest": _join(read(folder), [info["name"] for info in chosen]),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _join(digests: Mapping[str, str], names: list[str]) -> str:
    """Joins the digests of splits; "" if one is missing."""
    if not all(name in digests for name in names):
        return ""
    return "+".join(digests[name] for name in names)


def describe_change(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Says in a few words how a split differs from an earlier fingerprint; "" if it does not.

    Raises:
      KeyError, TypeError, ValueError: if the earlier one is no fingerprint.
    """
    if then["images"] != now["images"]:
        return f"{then['images']:,} images then, {now['images']:,} now"
    if then["meaning"] != now["meaning"]:
        return "the classes of its label values, or the size of its images, were others then"
    both = then["digest"] and now["digest"]
    same = then["digest"] == now["digest"] if both else then["bytes"] == now["bytes"]
    return "" if same else "as many images, but other content"
