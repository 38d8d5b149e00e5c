"""Identifies the content of a prepared split, so that a change is noticed.

Synopsis:

  fingerprint = read_fingerprint("datasets", "gta5/all", "train[:100]")
  describe_change(then, now)      # "" or "2,975 images then, 2,974 now"

Preparation writes a digest of the records of each split into the dataset's folder, `digests.json`,
with samples of their files: reading all records again would take minutes. A file of another sample
counts as another digest. A dataset without digests is identified by its number of records, their
bytes and the meaning of its labels.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from alp_jax.data import prepared

FILE_NAME = "digests.json"
Fingerprint = dict[str, Any]
_NUM_SAMPLES, _SAMPLE_BYTES = 16, 1 << 16  # Smaller files than their product are read as a whole.


def digest(parts: Iterable[bytes]) -> str:
    """Returns 32 hexadecimal digits of the SHA-256 of some bytes, each with its length."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()[:32]


@dataclasses.dataclass(frozen=True)
class Records:
    """What is known of the records of a split.

    Attributes:
      digest: of their content.
      samples: name of a file of records -> digest of samples of its bytes; empty in datasets of
        earlier versions.
    """

    digest: str
    samples: Mapping[str, str] = dataclasses.field(default_factory=dict)


def sample_files(folder: pathlib.Path, digests: Mapping[str, str]) -> dict[str, Records]:
    """Adds samples of the files of each split in a folder to {split: digest of its records}."""
    return {
        split: Records(
            found, {path.name: _sample(path) for path in sorted(folder.glob(f"*-{split}.*"))}
        )
        for split, found in digests.items()
    }


def _sample(path: pathlib.Path) -> str:
    """Returns a digest of a file's size, its start, its end and some bytes between them.

    Its size alone says little, as files of records are padded; its end lists where records are.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        last = max(size - _SAMPLE_BYTES, 0)
        parts = [str(size).encode()]
        for index in range(_NUM_SAMPLES + 1):
            file.seek(last * index // _NUM_SAMPLES)
            parts.append(file.read(_SAMPLE_BYTES))
    return digest(parts)


def write(folder: pathlib.Path, splits: Mapping[str, Records]) -> None:
    """Writes {split: its records} into the folder of a dataset."""
    content = {split: dataclasses.asdict(found) for split, found in splits.items()}
    (folder / FILE_NAME).write_text(json.dumps(content, indent=1) + "\n")


def read(folder: pathlib.Path) -> dict[str, Records]:
    """Reads what `write` wrote; empty if there is no such file, or it is damaged."""
    try:
        content = json.loads((folder / FILE_NAME).read_text()).items()
        return {
            split: Records(found) if isinstance(found, str) else Records(**found)
            for split, found in content
        }
    except (OSError, ValueError, AttributeError, TypeError):
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
            "digest": _join(folder, [info["name"] for info in chosen]),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _join(folder: pathlib.Path, names: list[str]) -> str:
    """Joins the digests of splits; "" if one is missing."""
    found = read(folder)
    if not all(name in found for name in names):
        return ""
    return "+".join(_check_samples(folder, found[name]) for name in names)


def _check_samples(folder: pathlib.Path, records: Records) -> str:
    """Returns the digest of records; another one if a file is not the one that was sampled.

    A file that is missing or empty is no other content; whoever reads the records reports it.
    """
    paths = [folder / name for name in records.samples]
    there = [path for path in paths if path.is_file() and path.stat().st_size]
    now = {path.name: _sample(path) for path in there}
    others = [f"{name} {now[name]}" for name in now if now[name] != records.samples[name]]
    return digest(map(str.encode, [records.digest, *others])) if others else records.digest


def is_lost(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Returns whether the digest of a split was known, and only that is not as it was.

    Raises:
      KeyError: if the earlier one is no fingerprint.
    """
    return bool(then["digest"]) and now == {**{key: then[key] for key in now}, "digest": ""}


def describe_change(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Says in a few words how a split differs from an earlier fingerprint; "" if it does not.

    Raises:
      KeyError, TypeError, ValueError: if the earlier one is no fingerprint.
    """
    if then["images"] != now["images"]:
        return f"{then['images']:,} images then, {now['images']:,} now"
    if then["meaning"] != now["meaning"]:
        return "the classes of its label values, or the size of its images, were others then"
    if is_lost(then, now):
        return f"{FILE_NAME} is missing or damaged, so that other content would not be noticed"
    both = then["digest"] and now["digest"]
    same = then["digest"] == now["digest"] if both else then["bytes"] == now["bytes"]
    return "" if same else "as many images, but other content"
