"""Prepares BDD100K's 10,000 images with semantic segmentation (Yu et al., CVPR 2020).

Synopsis:

  python -m data_prep.bdd100k --raw_dir=downloads/bdd100k --data_dir=datasets
"""

import functools
from typing import ClassVar

from data_prep.raw import cli
from data_prep.raw.builder import RawBuilder, RawConfig, make_config
from data_prep.raw.labels import read_indices
from data_prep.raw.layout import PatternLayout, Split
from data_prep.raw.tables import BDD100K

# Two folder structures have been published.
_IMAGE = r"(images/10k|seg/images)/{split}/(?P<name>[^/]+)\.jpg"
_LABEL = r"(labels/sem_seg/masks/{split}|seg/labels/{split})/(?P<name>[^/]+?)(_train_id)?\.png"
_EXPECTED_IMAGES = "images/10k/{train,val,test}/ID.jpg (or seg/images/...)"
LABELLED = PatternLayout(
    name="labelled",
    expected=f"{_EXPECTED_IMAGES} and labels/sem_seg/masks/{{train,val}}/ID.png "
    "(or seg/labels/{train,val}/ID_train_id.png)",
    splits={"train": Split("train", 7_000), "validation": Split("val", 1_000)},
    image=_IMAGE,
    label=_LABEL,
    read_label=functools.partial(read_indices, table=BDD100K),
)
UNLABELLED = PatternLayout(
    name="unlabelled",
    expected=_EXPECTED_IMAGES,
    splits={"train": Split("train", 7_000), "test": Split("test", 2_000)},
    image=_IMAGE,
)


class Bdd100k(RawBuilder):
    """Prepares BDD100K's segmentation images: `labelled` and `unlabelled`.

    python -m data_prep.bdd100k --raw_dir=downloads/bdd100k --data_dir=datasets
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = LABELLED.expected
    BUILDER_CONFIGS: ClassVar[list[RawConfig]] = [make_config(LABELLED), make_config(UNLABELLED)]


COMMAND = cli.Command(
    builder=Bdd100k, layouts=(LABELLED, UNLABELLED), default=("labelled", "unlabelled")
)

if __name__ == "__main__":
    cli.run("data_prep.bdd100k")
