"""tests/full_size.py on frames in Cityscapes' format, but small, and with a small network."""

import numpy as np

from tests import full_size, tiny
from tests.data_prep import raw_files


def test_scores_equal_those_of_the_official_cityscapes_scripts(tmp_path):
    config = tiny.get_config(tmp_path, "source_only")
    with config.unlocked():
        config.data.label_set = "cityscapes_19"
        config.data.target_size = (24, 40)
    files = {}
    for number in range(4):
        name = f"frankfurt_{number:06d}_000294"
        image = np.kron(raw_files.rgb(number, 6, 10), np.ones((8, 8, 1))).astype(np.uint8)
        ids = np.kron(raw_files.values(number, np.arange(34), 6, 10), np.ones((8, 8)))
        files[f"leftImg8bit/val/frankfurt/{name}_leftImg8bit.png"] = raw_files.png(image)
        files[f"gtFine/val/frankfurt/{name}_gtFine_labelIds.png"] = raw_files.png(ids)
    raw_files.write(tmp_path / "raw", files)
    summary = full_size.run(tmp_path / "raw", tmp_path / "datasets", config)
    assert summary["num_images"] == 4
    assert sum(iou > 0 for iou in summary["iou_per_class"].values() if iou is not None) > 3
