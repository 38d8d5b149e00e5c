"""Writes toy_cities_goldens.json, the hashes of the pixels of a few images.

Run it after a change that is meant to change the images:

  python -m tests.data_prep.toy_cities_goldens
"""

import hashlib
import json
import pathlib

import numpy as np

from data_prep.toy_cities.render import Domain, Settings, Split, render

FILE = pathlib.Path(__file__).with_name("toy_cities_goldens.json")
CASES = [
    (domain, split, index)
    for domain in Domain
    for split, index in (
        (Split.TRAIN, 0),
        (Split.TRAIN, 1499),
        (Split.VALIDATION, 3),
        (Split.TEST, 7),
    )
]


def sha256(pixels: np.ndarray) -> str:
    """Hash of the decoded pixels, so that the PNG library does not matter."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def compute_hashes() -> dict[str, list[str]]:
    """Case name -> hashes of the image and of its label map."""
    return {
        f"{domain.name} {split.name} {index}": [
            sha256(pixels) for pixels in render(Settings(), domain, split, index)
        ]
        for domain, split, index in CASES
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute_hashes(), indent=2) + "\n")
    print(f"Wrote {FILE}")
