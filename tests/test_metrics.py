import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from alp_jax.data.labels import load_label_set
from alp_jax.evaluation import metrics

# ALP-GI on SYNTHIA -> Cityscapes, Table 3 of the paper, in percent.
TABLE_3_ALP = [
    90.6, 51.34, 81.96, 11.77, 0.32, 29.51, 11.72, 12.38, 82.69, 84.7, 58.57, 24.73, 81.94, 36.37,
    17.11, 41.75,
]  # fmt: skip


@pytest.mark.parametrize("num_classes", [13, 16, 19])
def test_confusion_equals_scikit_learn(num_classes):
    rng = np.random.default_rng(num_classes)
    # Absent: class 2 occurs nowhere, class 3 only as a prediction, class 4 only as a label.
    labels = rng.choice([0, 1, 4, *range(5, num_classes), 255, num_classes], (3, 40, 50))
    predictions = rng.choice([0, 1, 3, *range(5, num_classes)], (3, 40, 50))
    labels[0], predictions[0, :20] = num_classes - 1, num_classes - 1
    confusion = np.asarray(
        metrics.compute_confusion(
            jnp.asarray(predictions, jnp.uint8), jnp.asarray(labels, jnp.uint8), num_classes
        )
    )
    kept = labels < num_classes
    expected = confusion_matrix(labels[kept], predictions[kept], labels=range(num_classes))
    np.testing.assert_array_equal(confusion, expected)

    ious = metrics.iou_per_class(confusion)
    expected_ious = jaccard_score(
        labels[kept], predictions[kept], labels=range(num_classes), average=None, zero_division=0
    )
    assert np.isnan(ious[2])
    present = np.arange(num_classes) != 2
    np.testing.assert_allclose(ious[present], expected_ious[present], atol=1e-12)
    assert metrics.mean_iou(ious) == pytest.approx(expected_ious[present].mean(), abs=1e-12)


def test_confusion_of_ignored_pixels_is_empty():
    labels = jnp.full((2, 3), 255)
    confusion = metrics.compute_confusion(jnp.zeros((2, 3)), labels, 4)
    np.testing.assert_array_equal(confusion, np.zeros((4, 4)))


def test_confusion_counts_every_pixel_of_a_large_batch():
    labels = jnp.zeros((1, 5000, 5000), jnp.uint8)
    confusion = jax.jit(metrics.compute_confusion, static_argnums=2)(labels, labels, 3)
    # 25,000,000 is past 2^24, where float32 would lose counts.
    assert int(confusion[0, 0]) == 25_000_000


def test_means_of_the_papers_table():
    ious = np.array(TABLE_3_ALP)
    label_set = load_label_set("cityscapes_16")
    assert metrics.mean_iou(ious) == pytest.approx(44.84, abs=0.005)
    thirteen = label_set.indices(load_label_set("cityscapes_13").names)
    assert metrics.mean_iou(ious[thirteen]) == pytest.approx(51.99, abs=0.005)


def test_summary():
    confusion = np.zeros((16, 16), np.int64)
    confusion[0, 0], confusion[0, 3], confusion[1, 1] = 6, 2, 4
    summary = metrics.summarise(confusion, load_label_set("cityscapes_16"))
    assert summary["iou_per_class"]["road"] == pytest.approx(6 / 8)
    assert summary["iou_per_class"]["sidewalk"] == 1.0
    assert summary["iou_per_class"]["wall"] == 0.0
    assert summary["iou_per_class"]["fence"] is None
    assert summary["mean_iou"] == summary["mean_iou_16"] == pytest.approx(1.75 / 3)
    assert summary["mean_iou_13"] == pytest.approx(1.75 / 2)
    assert summary["pixel_accuracy"] == pytest.approx(10 / 12)
    assert summary["num_pixels"] == 12


def test_summary_names_only_the_means_that_the_label_set_has():
    keys = metrics.summarise(np.eye(13, dtype=np.int64), load_label_set("cityscapes_13")).keys()
    assert "mean_iou_13" in keys
    assert "mean_iou_16" not in keys
    assert {"mean_iou_16", "mean_iou_13"} <= metrics.summarise(
        np.eye(19, dtype=np.int64), load_label_set("cityscapes_19")
    ).keys()


def test_summary_of_nothing_is_undefined():
    summary = metrics.summarise(np.zeros((19, 19), np.int64), load_label_set("cityscapes_19"))
    assert summary["mean_iou"] is None
    assert summary["pixel_accuracy"] is None
