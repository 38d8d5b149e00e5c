"""Prepares GTA5 ("Playing for Data", Richter et al., ECCV 2016): 24,966 rendered street scenes.

Synopsis:

  python -m data_prep.gta5 --raw_dir=downloads/gta5 --data_dir=datasets
  python -m data_prep.gta5 --raw_dir=downloads/gta5 --check
"""

import dataclasses
import functools
import io
from typing import Any, ClassVar

import numpy as np
from scipy import io as scipy_io

from alp_jax.errors import UserError
from data_prep.raw import cli
from data_prep.raw.builder import RawBuilder, RawConfig, make_config
from data_prep.raw.files import RawFiles
from data_prep.raw.labels import read_indices
from data_prep.raw.layout import PatternLayout, Selection, Split, count
from data_prep.raw.tables import GTA5

_PUBLISHED = 24_966
_EXPECTED = "images/NNNNN.png and labels/NNNNN.png"
# Split of the published file -> TFDS split and its number of images.
_SPLIT_IDS = {
    "trainIds": ("train", 12_403),
    "valIds": ("validation", 6_382),
    "testIds": ("test", 6_181),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedSplitLayout(PatternLayout):
    """Divides the pairs into the splits of split.mat, which was published with the dataset."""

    def select(self, files: RawFiles) -> Selection:
        """Finds all pairs, then divides them.

        Raises:
            UserError: if split.mat is missing, or cannot be read.
        """
        everything = super().select(files)
        ids = _read_split(files)
        selection = Selection({}, everything.faults)
        pairs = everything.pairs["train"]
        for key, (split, published) in _SPLIT_IDS.items():
            chosen = [pair for pair in pairs if int(pair.name) in ids[key]]
            names = [pair.name for pair in chosen]
            selection.notes.append(Split(published=published).describe_count(split, names))
            if chosen:
                selection.pairs[split] = chosen
        unassigned = len(pairs) - sum(len(chosen) for chosen in selection.pairs.values())
        if unassigned:
            selection.notes.append(f"{count(unassigned, 'image')} in no split of split.mat")
        return selection


def _read_split(files: RawFiles) -> dict[str, set[int]]:
    """Reads the image numbers of each split from split.mat."""
    found = files.find(r"(?P<name>split)\.mat")
    if not found:
        raise UserError(
            f"{files.root} has no split.mat, which tells the splits: add read_mapping.zip, which "
            "is published with the dataset, or prepare --configs=all."
        )
    file = found["split"]
    try:
        content: dict[str, Any] = scipy_io.loadmat(io.BytesIO(file.read()))
        return {key: set(np.asarray(content[key], int).ravel().tolist()) for key in _SPLIT_IDS}
    except Exception as error:  # loadmat raises many types for damaged files
        raise UserError(
            f"{file} cannot be read ({type(error).__name__}): expected the MATLAB file with "
            f"{', '.join(_SPLIT_IDS)} that is published in read_mapping.zip."
        ) from error


_FIELDS: dict[str, Any] = {
    "expected": _EXPECTED,
    "splits": {"train": Split(published=_PUBLISHED, first_number=1)},
    "image": r"images/(?P<name>\d{5})\.png",
    "label": r"labels/(?P<name>\d{5})\.png",
    "read_label": functools.partial(read_indices, table=GTA5),
    "assumes_label_ids": True,
}
ALL = PatternLayout(name="all", **_FIELDS)
PUBLISHED_SPLIT = PublishedSplitLayout(name="published_split", **_FIELDS)


class Gta5(RawBuilder):
    """Prepares GTA5: `all` in one split, or `published_split`.

    python -m data_prep.gta5 --raw_dir=downloads/gta5 --data_dir=datasets
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = _EXPECTED
    BUILDER_CONFIGS: ClassVar[list[RawConfig]] = [make_config(ALL), make_config(PUBLISHED_SPLIT)]


COMMAND = cli.Command(builder=Gta5, layouts=(ALL, PUBLISHED_SPLIT), default=("all",))

if __name__ == "__main__":
    cli.run("data_prep.gta5")
