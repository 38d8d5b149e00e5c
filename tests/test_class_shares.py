"""What a term reads from the labels of the source is counted once, and kept in config.json."""

import json
import shutil

import numpy as np
import pytest

from alp_jax.data import statistics
from alp_jax.data.labels import load_label_set
from alp_jax.errors import UserError
from alp_jax.objective.settings import term, view
from alp_jax.run import assembly, train
from alp_jax.settings.compare import list_fields
from alp_jax.workdir import config
from alp_jax.workdir.settings import build_settings
from tests import tiny
from tests.refusals import refusal

FIELD = "terms.class_ratio.class_shares"


@pytest.fixture
def run_config(data_dir, tmp_path):
    """A run with the class ratio prior, on a copy of the tiny source that has class frequencies."""
    shutil.copytree(data_dir, tmp_path / "data")
    (folder,) = (tmp_path / "data" / "tiny" / "source").iterdir()
    statistics.write(folder, {"train": count_values(range(tiny.NUM_TRAIN))})
    found = tiny.get_config(tmp_path / "data", "source_only")
    with found.unlocked():
        found.views.target = view("images", domain="target")
        found.terms.class_ratio = term("class_ratio_prior", mu=1.0)
        found.num_steps = found.log_every_steps = found.checkpoint.every_steps = 1
        found.evaluation.every_steps = 1
        found.data.source_split = "train[:5]"
    return found


def count_values(seeds) -> np.ndarray:
    return np.stack(
        [np.bincount(tiny.make_example(seed)["label"].ravel(), minlength=256) for seed in seeds]
    )


def test_a_run_counts_the_classes_of_its_source_keeps_their_shares_and_goes_on(
    run_config, tmp_path
):
    workdir = tmp_path / "run"
    train.train_and_evaluate(run_config, workdir)
    kept = config.load(workdir).terms["class_ratio"].class_shares
    label_ids = [found.label_id for found in load_label_set("cityscapes_16").classes]
    pixels = count_values(range(5)).sum(axis=0)[label_ids]
    assert kept == tuple(pixels / (5 * tiny.HEIGHT * tiny.WIDTH))
    with run_config.unlocked():
        run_config.num_steps = 2
    train.train_and_evaluate(run_config, workdir)
    assert config.load(workdir).terms["class_ratio"].class_shares == kept
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert all(line["loss/class_ratio"] > 0 for line in lines)


def test_an_empty_field_agrees_with_what_the_run_has_and_another_value_does_not(
    run_config, tmp_path
):
    settings = build_settings(run_config)
    assert list_fields(settings, derived=True) == [FIELD]
    completed = assembly.complete_terms(settings, load_label_set("cityscapes_16"))
    config.save(completed, tmp_path)
    config.check_workdir(settings, tmp_path)
    config.check_workdir(completed, tmp_path)
    with run_config.unlocked():
        run_config.terms.class_ratio.class_shares = (1.0,)
    message = refusal(lambda: config.check_workdir(build_settings(run_config), tmp_path))
    assert f"another run: config.{FIELD} is [" in message


def test_a_source_without_class_frequencies_is_refused(run_config, data_dir):
    with run_config.unlocked():
        run_config.data.data_dir = str(data_dir)
    with pytest.raises(
        UserError, match=r"Dataset tiny/source:train\[:5\] has no class frequencies"
    ):
        assembly.complete_terms(build_settings(run_config), load_label_set("cityscapes_16"))
