"""Prepares SYNTHIA-RAND-CITYSCAPES (Ros et al., CVPR 2016): 9,400 rendered street scenes.

Synopsis:

  python -m data_prep.synthia_rand_cityscapes --raw_dir=downloads/RAND_CITYSCAPES
"""

import functools
from typing import Any, ClassVar

from absl import flags

from data_prep.raw import cli
from data_prep.raw.builder import RawBuilder, RawConfig, make_config
from data_prep.raw.labels import read_first_of_16_bit
from data_prep.raw.layout import Layout, PatternLayout, Split
from data_prep.raw.tables import SYNTHIA, SYNTHIA_LANES_ARE_ROAD

_EXPECTED = "RGB/NNNNNNN.png and GT/LABELS/NNNNNNN.png"
_FIELDS: dict[str, Any] = {
    "expected": _EXPECTED,
    "splits": {"train": Split(published=9_400, first_number=0)},
    "image": r"RGB/(?P<name>\d{7})\.png",
    "label": r"GT/LABELS/(?P<name>\d{7})\.png",
}
ALL = PatternLayout(
    name="all", read_label=functools.partial(read_first_of_16_bit, table=SYNTHIA), **_FIELDS
)
ALL_LANES_ARE_ROAD = PatternLayout(
    name="all_lanes_are_road",
    read_label=functools.partial(read_first_of_16_bit, table=SYNTHIA_LANES_ARE_ROAD),
    **_FIELDS,
)


class SynthiaRandCityscapes(RawBuilder):
    """Prepares SYNTHIA-RAND-CITYSCAPES: `all`, or `all_lanes_are_road`.

    python -m data_prep.synthia_rand_cityscapes --raw_dir=downloads/RAND_CITYSCAPES
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = _EXPECTED
    BUILDER_CONFIGS: ClassVar[list[RawConfig]] = [make_config(ALL), make_config(ALL_LANES_ARE_ROAD)]


class _Command(cli.Command):
    def define_flags(self, values: flags.FlagValues) -> None:
        cli.define_raw_dir(values)
        flags.DEFINE_enum(
            "lane_marking", "ignore", ["ignore", "road"],
            "Class of lane marking: none, as in most papers (ignore), or road, as in CRST; road "
            "prepares the configuration all_lanes_are_road.",
            flag_values=values,
        )  # fmt: skip

    def choose(self, values: flags.FlagValues) -> tuple[str, list[Layout]]:
        layout = ALL if values.lane_marking == "ignore" else ALL_LANES_ARE_ROAD
        return cli.require(values, "raw_dir"), [layout]


COMMAND = _Command(builder=SynthiaRandCityscapes)

if __name__ == "__main__":
    cli.run("data_prep.synthia_rand_cityscapes")
