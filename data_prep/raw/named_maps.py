"""Names the label maps of published schemes: --label_map=cityscapes_train_ids.

Synopsis:

  label_map = get_label_map("cityscapes_train_ids")    # or of a file: "map.yaml"
  describe_meanings(label_map)                         # {"0": "road", ..., "255": "ignore"}
"""

from collections.abc import Mapping

from alp_jax.data.class_names import IGNORE
from alp_jax.data.labels import CITYSCAPES_TABLE
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


def describe_meanings(label_map: LabelMap) -> dict[str, str]:
    """Lists the class of each value or colour of a label map, in the order of the stored values.

    Cityscapes label ids give none.
    """
    if label_map.stored == CITYSCAPES_IDS.stored and label_map.table is None:
        return {}
    names = (label_map.table or CITYSCAPES_TABLE).names
    form = "#{:06x}" if label_map.is_colour else "{}"
    stored = {form.format(value): found for value, found in label_map.stored.items()}
    if label_map.default is not None:
        stored["default"] = label_map.default
    return {key: names.get(stored[key], IGNORE) for key in sorted(stored, key=stored.__getitem__)}
