"""Prepares Cityscapes (Cordts et al., CVPR 2016): 5,000 street scenes of European cities.

Synopsis:

  python -m data_prep.cityscapes --raw_dir=downloads/cityscapes --data_dir=datasets
"""

import functools
from typing import ClassVar

from data_prep.raw import cli
from data_prep.raw.builder import RawBuilder, RawConfig, make_config
from data_prep.raw.labels import read_indices
from data_prep.raw.layout import PatternLayout, Split
from data_prep.raw.tables import CITYSCAPES

_IMAGE = r"leftImg8bit/{split}/[^/]+/(?P<name>[^/]+)_leftImg8bit\.png"
_EXPECTED_IMAGES = "leftImg8bit/{train,val,test}/CITY/CITY_SEQ_FRAME_leftImg8bit.png"
# The labels of the test split are withheld; the files in their place are empty.
LABELLED = PatternLayout(
    name="labelled",
    expected=f"{_EXPECTED_IMAGES} and gtFine/{{train,val}}/CITY/CITY_SEQ_FRAME_gtFine_labelIds.png",
    splits={"train": Split("train", 2_975), "validation": Split("val", 500)},
    image=_IMAGE,
    label=r"gtFine/{split}/[^/]+/(?P<name>[^/]+)_gtFine_labelIds\.png",
    read_label=functools.partial(read_indices, table=CITYSCAPES),
    assumes_label_ids=True,
)
UNLABELLED = PatternLayout(
    name="unlabelled",
    expected=_EXPECTED_IMAGES,
    splits={"train": Split("train", 2_975), "test": Split("test", 1_525)},
    image=_IMAGE,
)


class Cityscapes(RawBuilder):
    """Prepares Cityscapes: `labelled` and `unlabelled`, which adaptation trains on.

    python -m data_prep.cityscapes --raw_dir=downloads/cityscapes --data_dir=datasets
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = LABELLED.expected
    BUILDER_CONFIGS: ClassVar[list[RawConfig]] = [make_config(LABELLED), make_config(UNLABELLED)]


COMMAND = cli.Command(
    builder=Cityscapes, layouts=(LABELLED, UNLABELLED), default=("labelled", "unlabelled")
)

if __name__ == "__main__":
    cli.run("data_prep.cityscapes")
