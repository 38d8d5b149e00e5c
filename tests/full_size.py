"""Takes raw Cityscapes frames through the whole program, and holds every number against others'.

  python -m tests.full_size --raw_dir=RAW/cityscapes

Prepares the labelled validation frames (any number of them), reads them back, evaluates
DeepLabv2-ResNet101 with random weights at 512x1024 on the labels' full resolution, and compares the
label histograms with numpy's of the raw files, and the scores with those of the official Cityscapes
scripts on the predictions that were written. Exits with an AssertionError where they differ.
"""

import argparse
import pathlib
import resource
import tempfile
import time
from typing import Any

import jax
import ml_collections
import numpy as np
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from PIL import Image

from alp_jax.data.labels import load_label_set
from alp_jax.data.sources import open_source
from alp_jax.evaluation.evaluator import Evaluator
from alp_jax.evaluation.predictor import Predictor
from alp_jax.run import assembly
from alp_jax.workdir.settings import build_settings
from configs import gta5_to_cityscapes
from data_prep.cityscapes import Cityscapes
from data_prep.raw.prepare import prepare


def raw_labels(raw_dir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Name of a validation frame -> its label file, as the real folders lie."""
    suffix = "_gtFine_labelIds.png"
    paths = (raw_dir / "gtFine" / "val").glob(f"*/*{suffix}")
    return {path.name.removesuffix(suffix): path for path in sorted(paths)}


def histogram(train_ids: np.ndarray) -> np.ndarray:
    return np.bincount(train_ids.ravel(), minlength=256)


def official_scores(
    predictions: dict[str, pathlib.Path], truth: dict[str, pathlib.Path]
) -> dict[str, Any]:
    """What the benchmark's own program gives: IoU by class name, and their mean."""
    args = official.args
    args.quiet, args.JSONOutput, args.evalInstLevelScore = True, False, False
    names = sorted(truth)
    return official.evaluateImgLists(
        [str(predictions[name]) for name in names], [str(truth[name]) for name in names], args
    )


def run(
    raw_dir: pathlib.Path, folder: pathlib.Path, config: ml_collections.ConfigDict
) -> dict[str, Any]:
    """Compares everything; returns the scores.

    Args:
      raw_dir: raw Cityscapes: leftImg8bit/val and gtFine/val.
      folder: for the prepared dataset and the predictions.
      config: of the network and the sizes; its datasets are replaced.
    """
    size = tuple(config.data.target_size)
    layout = Cityscapes.BUILDER_CONFIGS[0].layout
    prepared = Cityscapes.config_for(layout, size)
    prepare(Cityscapes, raw_dir, folder, [prepared])
    with config.unlocked():
        config.data.data_dir = str(folder)
        config.evaluation.dataset = f"cityscapes/{prepared.name}"
    settings = build_settings(config)
    truth, label_set = raw_labels(raw_dir), load_label_set(config.data.label_set)
    assert truth, f"no labels in {raw_dir}"

    # The raw files, by numpy alone, against what evaluation reads.
    source = open_source(str(folder), config.evaluation.dataset, "validation", label_set=label_set)
    assert len(source) == len(truth)
    total = np.zeros(256, int)
    for index in range(len(source)):
        example = source[index]
        raw = np.asarray(Image.open(truth[example["name"]]))
        expected = np.zeros(256, int)
        for train_id, scene_class in enumerate(label_set.classes):
            expected[train_id] = np.sum(raw == scene_class.label_id)
        expected[255] = raw.size - expected.sum()
        np.testing.assert_array_equal(histogram(example["label"]), expected)
        assert example["image"].shape == (*size, 3)
        total += expected
    print(f"{len(source)} frames: label histograms equal those of the raw files.")

    segmenter = assembly.create_setup(settings).segmenter
    params, model_state = jax.jit(segmenter.init)(jax.random.key(0))
    predictor = Predictor((segmenter,), settings.data.target_size)
    evaluator = Evaluator(settings, predictor, label_set)
    start = time.monotonic()
    result = evaluator.evaluate(
        [(params, model_state)], step=0, predictions_dir=folder / "predictions"
    )
    seconds = time.monotonic() - start
    assert result.summary["num_pixels"] == total[:255].sum()
    np.testing.assert_array_equal(result.confusion.sum(axis=1), total[: label_set.num_classes])

    scores = official_scores(
        {name: folder / "predictions" / f"{name}_labelIds.png" for name in truth}, truth
    )
    for name, iou in result.summary["iou_per_class"].items():
        theirs = scores["classScores"][name]
        np.testing.assert_allclose(np.nan if iou is None else iou, theirs, rtol=1e-12)
    np.testing.assert_allclose(
        result.summary["mean_iou"], scores["averageScoreClasses"], rtol=1e-12
    )
    predicted = int(np.sum(result.confusion.sum(axis=0) > 0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"Evaluated {result.summary['num_images']} frames at {size[0]}x{size[1]}, "
        f"{result.summary['num_pixels']:,} labelled pixels, {predicted} classes predicted, in "
        f"{seconds:.1f} s with compilation; peak memory {peak:.1f} GiB.\n"
        f"IoU per class and mean IoU ({100 * result.summary['mean_iou']:.4f} %, random weights) "
        "equal those of the official scripts."
    )
    return result.summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw_dir", type=pathlib.Path, required=True)
    config = gta5_to_cityscapes.get_config("source_only")
    with config.unlocked():
        config.model.backbone.kernel_init = "he_normal"  # Random weights that tell classes apart.
    with tempfile.TemporaryDirectory() as folder:
        run(parser.parse_args().raw_dir, pathlib.Path(folder), config)


if __name__ == "__main__":
    main()
