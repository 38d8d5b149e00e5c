"""A run that commit 106e02e wrote can be used: restored, continued, evaluated and predicted with.

The run and what that commit made of it are in tests/data/run_106e02e, which
tests/data/make_run_106e02e.py wrote. What is restored must have the same bits on any machine. What
is computed must have them where the environment is the recorded one (versions, processor, compiler
options), and agree to a tight tolerance elsewhere.
"""

import json
import pathlib
import shutil
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from alp_jax.evaluation import segmenter
from alp_jax.run import assembly, train
from alp_jax.settings.schema import to_config
from alp_jax.workdir import checkpoint, config
from tests import tiny
from tests.data import make_run_106e02e as made

FOLDER = pathlib.Path(__file__).parent / "data" / "run_106e02e"
# In another environment: of each array, relative to its largest value; of scores and metrics; and
# the share of pixels whose class may be another.
ARRAY_TOLERANCE, SCORE_TOLERANCE, PIXEL_TOLERANCE = 1e-4, 1e-3, 2e-3

Arrays = dict[str, np.ndarray]


class Outcome(NamedTuple):
    """What the code of today makes of the stored run.

    Attributes:
      restored: every array of the stored checkpoint, by path.
      train_ids, entropy: [N, H, W], predicted with that checkpoint.
      continued: every array of the state after the last step.
      metrics: the last line of metrics.jsonl, without timings.
      scores: of the evaluation of the last step.
    """

    restored: Arrays
    train_ids: np.ndarray
    entropy: np.ndarray
    continued: Arrays
    metrics: dict[str, float]
    scores: dict[str, Any]


def use_run(workdir: pathlib.Path, data_dir: pathlib.Path) -> Outcome:
    """Restores, predicts, continues: the only function here that knows the interface of alp_jax."""
    settings = config.load(workdir)
    run_config = to_config(settings)
    run_config.data.data_dir = str(data_dir)
    run_config.num_steps = made.ALL_STEPS
    setup = assembly.create_setup(settings)
    like = jax.eval_shape(lambda: assembly.create_train_state(setup, jax.random.key(0)))

    def restore(step: int) -> Arrays:
        with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
            return made.name_arrays(checkpoints.restore(step, like=like))

    restored = restore(made.FIRST_STEPS)
    images = [tiny.make_example(seed)["image"] for seed in made.PREDICTED_SEEDS]
    predictions = segmenter.load_segmenter(workdir).predict(images)
    scores = train.train_and_evaluate(run_config, workdir)
    return Outcome(
        restored=restored,
        train_ids=np.stack([prediction.train_ids for prediction in predictions]),
        entropy=np.stack([prediction.entropy for prediction in predictions]),
        continued=restore(made.ALL_STEPS),
        metrics=made.last_metrics(workdir),
        scores=scores,
    )


@pytest.fixture(scope="module")
def outcome(data_dir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Uses a copy of the stored run."""
    workdir = tmp_path_factory.mktemp("compatibility") / "run"
    shutil.copytree(FOLDER / "workdir", workdir)
    return use_run(workdir, data_dir)


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """Reads what is recorded as JSON."""
    return json.loads((FOLDER / "expected.json").read_text())


@pytest.fixture(scope="module")
def expected() -> Arrays:
    """Reads what is recorded as arrays."""
    with np.load(FOLDER / "expected.npz") as held:
        return dict(held)


@pytest.fixture(scope="module")
def is_recorded_environment(described: dict[str, Any]) -> bool:
    """Tells whether the same bits are to be expected of what is computed."""
    return made.describe_environment() == described["environment"]


def assert_near(ours: Arrays, theirs: Arrays, *, exactly: bool) -> None:
    """Compares arrays of the same names, exactly or relative to their largest values."""
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape), name
        if exactly:
            np.testing.assert_array_equal(ours[name], array, err_msg=name)
        else:
            atol = ARRAY_TOLERANCE * np.abs(array).max()
            np.testing.assert_allclose(ours[name], array, rtol=0, atol=atol, err_msg=name)


def assert_scores_near(ours: Any, theirs: Any, *, exactly: bool) -> None:
    """Compares nested results, exactly or their numbers to a tolerance."""
    if exactly:
        assert ours == theirs
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert_scores_near(ours[name], value, exactly=False)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=SCORE_TOLERANCE, abs=SCORE_TOLERANCE)
    else:
        assert ours == theirs


def test_restoring_gives_the_stored_arrays(outcome, described):
    """Holds on any machine: digests of type, shape and bytes of every array, by path."""
    digests = {name: made.digest(array) for name, array in outcome.restored.items()}
    assert digests == described["digests"]


def test_continuing_gives_the_recorded_state(outcome, expected, is_recorded_environment):
    theirs = {n.removeprefix("state/"): a for n, a in expected.items() if n.startswith("state/")}
    assert_near(outcome.continued, theirs, exactly=is_recorded_environment)


def test_continuing_gives_the_recorded_metrics(outcome, described, is_recorded_environment):
    assert_scores_near(outcome.metrics, described["metrics"], exactly=is_recorded_environment)


def test_evaluation_gives_the_recorded_scores(outcome, described, is_recorded_environment):
    assert_scores_near(outcome.scores, described["scores"], exactly=is_recorded_environment)


def test_prediction_gives_the_recorded_classes(outcome, expected, is_recorded_environment):
    theirs = expected["predictions/train_ids"]
    assert outcome.train_ids.shape == theirs.shape
    differing = float(np.mean(outcome.train_ids != theirs))
    assert differing <= (0 if is_recorded_environment else PIXEL_TOLERANCE)


def test_prediction_gives_the_recorded_entropy(outcome, expected, is_recorded_environment):
    theirs = {"entropy": expected["predictions/entropy"]}
    assert_near({"entropy": outcome.entropy}, theirs, exactly=is_recorded_environment)
