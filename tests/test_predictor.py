import functools
import pathlib

import jax
import numpy as np
import pytest

from alp_jax.data.labels import IGNORE_LABEL
from alp_jax.evaluation.eval_step import eval_step
from alp_jax.evaluation.predictor import Predictor
from alp_jax.run import assembly
from alp_jax.workdir.settings import build_settings
from tests import tiny


def test_eval_step_counts_masked_images_not_at_all():
    settings = build_settings(tiny.get_config(pathlib.Path("unused"), "source_only"))
    segmenter = assembly.create_setup(settings).segmenter
    params, model_state = jax.jit(segmenter.init)(jax.random.key(0))
    images, labels, *_ = tiny.make_batch()["source"]
    predictor = Predictor((segmenter,), settings.data.target_size)
    compute = jax.jit(functools.partial(eval_step, predictor=predictor, num_classes=16))
    outputs = compute([(params, model_state)], images, labels, np.array([True, False]))
    assert int(outputs["num_images"]) == 1
    assert int(outputs["confusion"].sum()) == np.sum(labels[0] != IGNORE_LABEL)
    assert outputs["predictions"].shape == labels.shape
    expected = np.mean(outputs["entropy"][0])
    assert float(outputs["entropy_total"]) == pytest.approx(float(expected), rel=1e-5)
