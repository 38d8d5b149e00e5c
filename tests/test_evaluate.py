"""Evaluation without labels, and predictions in the format of the Cityscapes benchmark."""

import jax
import numpy as np
import pytest
from PIL import Image

from alp_jax import models
from alp_jax.data.labels import CITYSCAPES_TABLE, load_label_set
from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator
from alp_jax.evaluation.predictor import Predictor
from alp_jax.workdir.settings import build_settings
from tests import tiny

LABEL_SET = load_label_set("cityscapes_16")


def make_evaluator(data_dir, dataset: str, split: str, batch_size: int = 3):
    """Creates an evaluator of untrained weights; returns it with these."""
    config = tiny.get_config(data_dir)
    with config.unlocked():
        config.evaluation.dataset = dataset
        config.evaluation.split = split
        config.evaluation.batch_size = batch_size
    settings = build_settings(config)
    segmenter = models.create_segmenter(settings.model, 16)
    predictor = Predictor((segmenter,), settings.data.target_size)
    weights = jax.jit(segmenter.init)(jax.random.key(0))
    return evaluator.Evaluator(settings, predictor, LABEL_SET), (weights,)


def test_a_dataset_without_labels_gives_entropy_and_pictures_but_no_scores(data_dir, tmp_path):
    evaluator, weights = make_evaluator(data_dir, "tiny/target_unlabelled", "train")
    result = evaluator.evaluate(weights, step=0, predictions_dir=tmp_path / "predictions")
    summary = result.summary
    assert summary["num_images"] == tiny.NUM_TRAIN - 2
    assert summary["num_pixels"] == 0
    assert summary["mean_iou"] is None
    assert summary["pixel_accuracy"] is None
    assert set(summary["iou_per_class"].values()) == {None}
    assert 0 < summary["mean_entropy"] <= 1
    assert result.save(tmp_path).exists()
    assert len(list((tmp_path / "predictions").iterdir())) == tiny.NUM_TRAIN - 2


def test_padding_does_not_change_any_score(data_dir):
    evaluator, weights = make_evaluator(data_dir, "tiny/target", "validation")
    padded = evaluator.evaluate(weights, step=0).summary  # 7 images in batches of 3.
    evaluator, weights = make_evaluator(data_dir, "tiny/target", "validation", batch_size=1)
    single = evaluator.evaluate(weights, step=0).summary
    for name in ("mean_entropy", "soft_neighbourhood_density", "information_maximisation"):
        # The last is a small difference of two entropies near 1, each rounded to single precision.
        assert padded[name] == pytest.approx(single[name], rel=1e-5, abs=1e-6)
    assert padded["mean_iou"] == single["mean_iou"]
    assert 0 < padded["information_maximisation"] < 1


def test_predictions_are_label_ids_and_give_the_confusion(data_dir, tmp_path):
    evaluator, weights = make_evaluator(data_dir, "tiny/target", "validation")
    result = evaluator.evaluate(weights, step=0, predictions_dir=tmp_path)
    files = sorted(tmp_path.iterdir())
    numbers = range(250, 250 + tiny.NUM_EVAL)  # Also: no file of a padded example.
    assert [file.name for file in files] == [f"{i:05d}_labelIds.png" for i in numbers]
    confusion = np.zeros((16, 16), int)
    for file, number in zip(files, numbers, strict=True):
        prediction = np.asarray(Image.open(file))
        assert prediction.dtype == np.uint8
        truth = LABEL_SET.map_table(CITYSCAPES_TABLE)[tiny.make_example(number)["label"][..., 0]]
        np.add.at(confusion, (truth, LABEL_SET.map_table(CITYSCAPES_TABLE)[prediction]), 1)
    np.testing.assert_array_equal(confusion, result.confusion)


def test_a_prediction_may_not_leave_its_folder(tmp_path):
    prediction = np.zeros((2, 2), np.uint8)
    evaluator.save_prediction(tmp_path / "out", "day/frame", prediction, LABEL_SET)
    assert (tmp_path / "out" / "day" / "frame_labelIds.png").exists()
    with pytest.raises(UserError, match="leads out of"):
        evaluator.save_prediction(tmp_path / "out", "../frame", prediction, LABEL_SET)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="give a --predictions folder that you may write to"):
        evaluator.save_prediction(tmp_path / "file", "frame", prediction, LABEL_SET)
