"""Own folders, from files to scores: a labelled source, an unlabelled target, ten lines."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from alp_jax.run import train
from data_prep.image_folder import COMMAND
from tests import tiny
from tests.data_prep import raw_files

# What a user writes; the network is made small below, for the test's sake only.
CONFIG = """
from configs import image_folders

def get_config(variant="alp_gi"):
    config = image_folders.get_config(variant)
    with config.unlocked():
        config.init_from = ""
        config.data.source_size = (40, 64)
        config.data.target_size = (32, 48)
        config.terms.adversarial.patches.patch_size = (16, 16)
    return config
"""
SIZES = [(40, 64), (37, 61), (80, 50), (33, 97)]
VALUES = {0: "road", 1: "car", 9: "ignore"}


def write_folders(root: pathlib.Path) -> None:
    """A source of PNG and JPEG with labels, a target of others without, and two of it labelled."""
    for folder, labelled in (("source", True), ("target", False), ("scored", True)):
        for number, (height, width) in enumerate(SIZES):
            name = f"day{number % 2}/{number}"
            pixels = raw_files.rgb(number, height, width)
            kind = (".png", ".jpg", ".bmp", ".webp")[number]
            path = root / folder / "images" / f"{name}{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            if labelled:
                ids = raw_files.values(number, np.array(list(VALUES)), height, width)
                path = root / folder / "labels" / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(raw_files.png(ids))
    (root / "map.json").write_text(json.dumps(VALUES))


def prepare(root: pathlib.Path, name: str, *arguments: str) -> None:
    images = f"--images={root / name / 'images'}"
    data_dir = f"--data_dir={root / 'datasets'}"
    status = COMMAND.main(["", f"--name={name}", images, data_dir, "--workers=1", *arguments])
    assert status == 0


def load_config(root: pathlib.Path):
    """The user's file, with the smallest network that has every part."""
    path = root / "own.py"
    path.write_text(CONFIG)
    assert len(CONFIG.strip().splitlines()) <= 11
    spec = importlib.util.spec_from_file_location("own", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    small = tiny.get_config(root / "datasets")
    with config.unlocked():
        for field in ("model", "checkpoint", "tensorboard"):
            config[field] = small[field]
        config.terms.adversarial.widths = small.terms.adversarial.widths
        config.data.data_dir = str(root / "datasets")
        config.evaluation.every_steps = config.num_steps = 2
        config.log_every_steps = 1
    return config


@pytest.mark.parametrize("scored", [False, True], ids=["no target label", "some target labels"])
def test_adapting_between_own_folders(tmp_path, scored):
    write_folders(tmp_path)
    labels = f"--labels={tmp_path / 'source' / 'labels'}"
    label_map = f"--label_map={tmp_path / 'map.json'}"
    prepare(tmp_path, "source", labels, label_map)
    prepare(tmp_path, "target")
    config = load_config(tmp_path)
    if scored:
        labels = f"--labels={tmp_path / 'scored' / 'labels'}"
        prepare(tmp_path, "scored", labels, label_map, "--split=validation")
        with config.unlocked():
            config.evaluation.dataset, config.evaluation.split = "image_folder/scored", "validation"
    summary = train.train_and_evaluate(config, tmp_path / "run")
    assert summary["num_images"] == len(SIZES)
    assert 0 < summary["mean_entropy"] <= 1
    assert (tmp_path / "run" / "evaluation" / "step_2.png").exists()
    if scored:
        # Scored at the labels' own sizes; a third of the pixels are ignored.
        pixels = sum(height * width for height, width in SIZES)
        assert 0.6 * pixels < summary["num_pixels"] < 0.7 * pixels
        assert summary["iou_per_class"]["road"] is not None
        assert 0 <= summary["mean_iou"] <= 1
    else:
        assert summary["num_pixels"] == 0
        assert summary["mean_iou"] is None
