import numpy as np
import pytest

from alp_jax.data import labels
from alp_jax.data.labels import LABEL_SETS

# Cityscapes id -> train id in the 19, 16 and 13 classes, as published.
TABLE = {
    7: (0, 0, 0), 8: (1, 1, 1), 11: (2, 2, 2), 12: (3, 3, 255), 13: (4, 4, 255), 17: (5, 5, 255),
    19: (6, 6, 3), 20: (7, 7, 4), 21: (8, 8, 5), 22: (9, 255, 255), 23: (10, 9, 6),
    24: (11, 10, 7), 25: (12, 11, 8), 26: (13, 12, 9), 27: (14, 255, 255), 28: (15, 13, 10),
    31: (16, 255, 255), 32: (17, 14, 11), 33: (18, 15, 12),
}  # fmt: skip


@pytest.mark.parametrize(("column", "num_classes"), [(0, 19), (1, 16), (2, 13)])
def test_all_256_ids(column, num_classes):
    expected = [TABLE.get(value, (255, 255, 255))[column] for value in range(256)]
    np.testing.assert_array_equal(LABEL_SETS[num_classes].from_cityscapes_ids, expected)
    assert LABEL_SETS[num_classes].num_classes == num_classes


def test_palette_paints_classes_and_leaves_the_rest_black():
    painted = LABEL_SETS[19].colourise(np.array([[0, 18, 255, 19]]))
    np.testing.assert_array_equal(painted, [[[128, 64, 128], [119, 11, 32], [0] * 3, [0] * 3]])


def test_subset_is_only_of_classes_that_are_there():
    assert LABEL_SETS[13].subset_indices(("wall",)) is None
    np.testing.assert_array_equal(LABEL_SETS[16].subset_indices(("sky", "road")), [9, 0])


def test_known_ids():
    assert labels.IS_CITYSCAPES_ID[[0, 34, 255]].all()
    assert not labels.IS_CITYSCAPES_ID[35:255].any()
