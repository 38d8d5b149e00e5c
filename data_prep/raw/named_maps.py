"""Names the label maps of published schemes: --label_map=cityscapes_train_ids.

Synopsis:

  label_map = get_label_map("cityscapes_train_ids")    # or of a file: "map.yaml"
  label_map.meanings                                   # {"0": "road", ..., "255": "ignore"}
"""

from collections.abc import Mapping

from data_prep.raw.label_map import CITYSCAPES_IDS, LabelMap, load_label_map
from data_prep.raw.tables import BDD100K

LABEL_IDS, TRAIN_IDS = "cityscapes_label_ids", "cityscapes_train_ids"
# BDD100K's labels are the 19 train ids, and 255 for pixels without a class.
NAMED_MAPS: Mapping[str, LabelMap] = {
    LABEL_IDS: CITYSCAPES_IDS,
    TRAIN_IDS: LabelMap(BDD100K.stored),
}


def get_label_map(name_or_path: str) -> LabelMap:
    """Returns a published label map by its name, or a user's, read from a file.

    Raises:
        UserError: if the file cannot be read, or has a wrong key or class.
    """
    return NAMED_MAPS.get(name_or_path) or load_label_map(name_or_path)
