"""Evaluation asks only for the fields that it uses, and a workdir's own can be overridden."""

import json
import shutil

import numpy as np
import pytest

from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator
from alp_jax.workdir import config
from alp_jax.workdir.settings import build_settings
from configs import default, gta5_to_cityscapes
from tests import tiny
from tests.commands import call


def change(run_config, **fields):
    """A copy with some fields changed; dots are written as __."""
    changed = run_config.copy_and_resolve_references()
    with changed.unlocked():
        changed.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    return changed


OF_TRAINING = {
    "seed": 5,
    "num_steps": 7,
    "init_from": "pretrained/none",
    "data__source": "none/source",
    "data__source_split": "train[:2]",
    "data__source_size": (16, 16),
    "data__target": "none/target",
    "data__target_split": "train[:3]",
    "data__flip_probability": 0.9,
    "data__batch_size": 5,
    "data__num_workers": 3,
    "optimizer__segmenter_learning_rate": 3.0,
    "model__backbone__batch_norm_mode": "batch",
    "model__backbone__kernel_init": "he_normal",
    "model__backbone__rematerialise": True,
    "terms__cross_entropy__weight": 0.5,
    "checkpoint__every_steps": 9,
}


def test_fields_of_training_change_no_score(data_dir, saved_run):
    run_config = change(tiny.get_config(data_dir, "source_only"), **OF_TRAINING)
    own = evaluator.evaluate_checkpoint(saved_run)
    other = evaluator.evaluate_checkpoint(saved_run, run_config)
    assert other.summary == own.summary
    np.testing.assert_array_equal(other.confusion, own.confusion)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data__label_set", "cityscapes_19"),
        ("data__target_size", (16, 16)),
        ("data__image_resize", "bilinear"),
        ("model__input_order", "bgr"),
        ("model__activation_dtype", "bfloat16"),
        ("model__backbone__widths", (8, 4)),
        ("model__heads__main__dilations", (1,)),
    ],
)
def test_a_field_on_which_scores_depend_must_agree(data_dir, saved_run, field, value):
    run_config = change(tiny.get_config(data_dir, "source_only"), **{field: value})
    with pytest.raises(UserError, match=f"another run: config.{field.replace('__', '.')} is"):
        evaluator.evaluate_checkpoint(saved_run, run_config)


@pytest.mark.parametrize("method", default.list_methods())
def test_another_methods_configuration_evaluates_the_same_network(data_dir, saved_run, method):
    settings = build_settings(tiny.get_config(data_dir, method))
    saved = config.load(saved_run)
    if others := settings.model.heads.keys() - {"main"}:
        with pytest.raises(UserError, match=rf"config\.model\.heads\.{min(others)}"):
            config.check_same_evaluation(settings, saved, saved_run)
    else:
        config.check_same_evaluation(settings, saved, saved_run)


@pytest.mark.parametrize("method", ["advent", "alp_gi"])
def test_the_papers_configuration_evaluates_converted_weights(method, tmp_path):
    """Such weights have the default's datasets and no start; only their network is theirs."""
    papers = gta5_to_cityscapes.get_config(method)
    weights = change(default.get_config(method), evaluation__dataset="cityscapes/labelled")
    assert weights.data.source != papers.data.source
    assert weights.init_from != papers.init_from
    config.check_same_evaluation(build_settings(papers), build_settings(weights), tmp_path)


def test_a_moved_dataset_is_named_by_one_flag(data_dir, saved_run, tmp_path):
    """Without --config: the other fields are those of the workdir."""
    shutil.copytree(saved_run, tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    saved["data"]["data_dir"] = "/nowhere/datasets"
    (tmp_path / "run" / "config.json").write_text(json.dumps(saved))
    arguments = ("--mode=evaluate", f"--workdir={tmp_path / 'run'}", "--split=test")
    assert call("alp_jax.main", *arguments).returncode == 2
    done = call("alp_jax.main", *arguments, f"--config.data.data_dir={data_dir}")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "run" / "evaluation" / "step_6_test.json").read_text())
    assert scores["num_images"] == tiny.NUM_EVAL
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == saved
