"""Runs in rounds: what they write and train on, and that stopping them anywhere changes no bit."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from alp_jax.data import pipeline
from alp_jax.data.labels import load_label_set
from alp_jax.errors import Stopped, UserError
from alp_jax.evaluation.predictor import Predictor, Recipe
from alp_jax.objective.settings import placement, term, view
from alp_jax.run import assembly, labelling, train
from alp_jax.workdir import checkpoint, manifest, rounds
from alp_jax.workdir.settings import build_settings
from tests import tiny
from tests.self_training import crst

NUM_TARGET = tiny.NUM_TRAIN - 2


def get_config(data_dir, method="cbst", **fields):
    """Two rounds of three steps; every checkpoint is kept."""
    config = tiny.get_config(data_dir, method)
    with config.unlocked():
        config.evaluation.every_steps = 6
        config.checkpoint.every_steps = 1
        config.checkpoint.keep_last = 9
        config.rounds.update(source_portion=0.25, prediction_flip=True, prediction_scales=(0.9,))
        config.rounds.update(fields)
    return config


def read_state(config, workdir, number):
    setup = assembly.create_setup(build_settings(config))
    like = jax.eval_shape(lambda: assembly.create_train_state(setup, jax.random.key(0)))
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        return jax.device_get(checkpoints.restore(number, like=like))


def read_labels(workdir, number):
    folder = rounds.find_folder(workdir, number)
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def assert_same_run(config, workdir, expected, steps=(3, 6)):
    for number in steps:
        states = (read_state(config, folder, number) for folder in (workdir, expected))
        jax.tree.map(np.testing.assert_array_equal, *states)
    for number in (0, 1):
        names = sorted(path.name for path in rounds.find_folder(expected, number).iterdir())
        for name in names:
            found, wanted = (rounds.find_folder(run, number) / name for run in (workdir, expected))
            assert found.read_bytes() == wanted.read_bytes()
        assert names == sorted(path.name for path in found.parent.iterdir())


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    config, workdir = get_config(data_dir), tmp_path_factory.mktemp("rounds")
    train.train_and_evaluate(config, workdir)
    return config, workdir


@pytest.fixture
def copied(run, tmp_path):
    shutil.copytree(run[1], tmp_path / "run")
    return tmp_path / "run"


def forget_after(workdir, number):
    for path in (workdir / checkpoint.FOLDER).iterdir():
        if int(path.name) > number:
            shutil.rmtree(path)


def predict_target(config, workdir, number):
    """Probabilities of all target images, by the checkpoint of a step."""
    setup = assembly.create_setup(build_settings(config))
    state = read_state(config, workdir, number).segmenter
    settings, size = build_settings(config), (tiny.HEIGHT, tiny.WIDTH)
    recipe = Recipe(flip=True, scales=(0.9,))  # As published.
    predictor = Predictor((setup.segmenter,), size, recipe)
    label_set = load_label_set(settings.data.label_set)
    target = pipeline.open_domain(settings.data, "target", label_set)
    images = np.stack([target[index]["image"] for index in range(NUM_TARGET)])
    predict = jax.jit(lambda held: predictor.predict((held,), images, size))
    return np.exp(np.asarray(predict((state.params, state.model_state))))


def test_labels_are_those_of_published_code_for_the_predictions_of_the_rounds_start(run):
    config, workdir = run
    probs = predict_target(config, workdir, 3)
    pools, sizes = crst.pool_confidences(list(probs), probs.shape[-1], 4)
    portion = 0.2 + 0.05
    found = rounds.read(rounds.find_folder(workdir, 1))
    assert (found.step, found.portion, found.num_images) == (3, portion, NUM_TARGET)
    np.testing.assert_array_equal(found.class_pixels, sizes)
    expected = crst.find_thresholds(pools, portion)
    np.testing.assert_allclose(found.thresholds, expected, rtol=2.0**-11)
    assert found.mined_classes == tuple(np.flatnonzero(sizes / sizes.sum() < 1e-3))
    thresholds = np.array(found.thresholds, np.float32)
    labels = read_labels(workdir, 1)
    agreement = [labels[i] == crst.label_hard(probs[i], thresholds) for i in range(NUM_TARGET)]
    assert np.mean(agreement) > 0.9995  # Rounding decides a pixel at its threshold.
    assert 0.1 < (labels != 255).mean() < 0.6


def test_the_workdir_says_what_was_labelled(run):
    _, workdir = run
    shares = json.loads((rounds.find_folder(workdir, 0) / rounds.SHARES).read_text())
    labels = read_labels(workdir, 0)
    assert shares["labelled_share"] == pytest.approx((labels != 255).mean())
    assert len(shares["classes"]) == 16
    labelled = [found["labelled_share"] for found in shares["classes"].values()]
    assert sum(labelled) == pytest.approx(1)
    assert {path.name for path in (workdir / rounds.FOLDER).iterdir()} == {"0", "1"}
    assert labels.shape == (NUM_TARGET, tiny.HEIGHT, tiny.WIDTH)


class StopAt:
    """Stops a run at the n-th call of a function."""

    def __init__(self, patch, owner, name, count):
        self._function, self._left = getattr(owner, name), count
        patch.setattr(owner, name, self)

    def __call__(self, *arguments, **named):
        self._left -= 1
        if self._left == 0:
            raise Stopped("here")
        return self._function(*arguments, **named)


def test_a_run_that_is_stopped_again_and_again_has_the_same_bits(run, tmp_path):
    """In the first pass, in the second one of each round, and before the mark of a round."""
    config, expected = run
    stops = [
        (labelling, "check_finite", 2),
        (rounds, "save_label", 5),
        (rounds, "save_label", NUM_TARGET + 3),
        (rounds, "finish", 1),
    ]
    for owner, name, count in stops:
        with pytest.MonkeyPatch.context() as patch:
            StopAt(patch, owner, name, count)
            with pytest.raises(Stopped):
                train.train_and_evaluate(config, tmp_path / "run")
    train.train_and_evaluate(config, tmp_path / "run")
    assert_same_run(config, tmp_path / "run", expected)


@pytest.mark.parametrize(("number", "fault"), [(0, "gone"), (1, "changed")])
def test_lost_labels_are_made_anew_by_the_rounds_first_state(run, copied, number, fault):
    config, expected = run
    folder = rounds.find_folder(copied, number)
    forget_after(copied, 3 * number + 1)
    if fault == "gone":
        shutil.rmtree(folder)
    else:
        Image.fromarray(np.zeros((tiny.HEIGHT, tiny.WIDTH), np.uint8)).save(folder / "000003.png")
    train.train_and_evaluate(config, copied)
    assert_same_run(config, copied, expected)


@pytest.mark.parametrize("last_is_damaged", [False, True])
def test_a_rounds_first_state_is_not_needed_once_its_labels_are_there(run, copied, last_is_damaged):
    """`checkpoint.keep_last` removes it; a damaged later one leads back to the round before."""
    config, expected = run
    forget_after(copied, 5)
    for number in (3, 4):
        shutil.rmtree(copied / checkpoint.FOLDER / str(number))
    if last_is_damaged:
        (copied / checkpoint.FOLDER / "5" / manifest.FILE_NAME).write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "save_label", None)  # Nothing is labelled again.
        train.train_and_evaluate(config, copied)
    assert_same_run(config, copied, expected, steps=(3, 6) if last_is_damaged else (6,))


@pytest.mark.parametrize("name", ["000003.png", rounds.THRESHOLDS, rounds.SHARES, "SHA256SUMS"])
def test_labels_are_complete_only_as_they_were_written(copied, name):
    folder = rounds.find_folder(copied, 0)
    assert rounds.is_complete(folder)
    (folder / name).write_text("{}")
    assert not rounds.is_complete(folder)
    (folder / name).unlink()
    assert not rounds.is_complete(folder)
    assert rounds.count_labels(folder, NUM_TARGET, (tiny.HEIGHT, tiny.WIDTH)) in (3, NUM_TARGET)
    assert rounds.count_labels(folder, NUM_TARGET, (tiny.HEIGHT, 1)) == 0


def test_lost_labels_without_the_rounds_first_state_are_one_sentence(run, copied):
    forget_after(copied, 4)
    shutil.rmtree(rounds.find_folder(copied, 1))
    shutil.rmtree(copied / checkpoint.FOLDER / "3")
    with pytest.raises(UserError, match=r"labels of round 2 in .* missing .* checkpoint of step 3"):
        train.train_and_evaluate(run[0], copied)


def test_labels_of_other_weights_are_not_taken(run, copied):
    """As when a run goes back to a checkpoint before the round, and arrives with other bits."""
    config, expected = run
    forget_after(copied, 3)
    folder = rounds.find_folder(copied, 1)
    found = json.loads((folder / rounds.THRESHOLDS).read_text()) | {"weights_sha256": "0"}
    (folder / rounds.THRESHOLDS).write_text(json.dumps(found))
    train.train_and_evaluate(config, copied)
    assert_same_run(config, copied, expected)


def test_a_target_with_labels_is_refused(data_dir, tmp_path):
    config = get_config(data_dir)
    with config.unlocked():
        config.data.target = "tiny/target"
    with pytest.raises(UserError, match="target domain must be read without"):
        train.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_devices_label_and_train_as_one_does(run, data_dir, tmp_path):
    config, expected = run
    both = get_config(data_dir)
    with both.unlocked():
        both.mesh.data = 2
        both.num_steps = 3
    train.train_and_evaluate(both, tmp_path / "run")
    found = rounds.read(rounds.find_folder(tmp_path / "run", 0))
    wanted = rounds.read(rounds.find_folder(expected, 0))
    np.testing.assert_allclose(found.thresholds, wanted.thresholds, rtol=1e-3)
    labels = [read_labels(folder, 0) for folder in (tmp_path / "run", expected)]
    assert (labels[0] == labels[1]).mean() > 0.999
    ours, theirs = (read_state(config, folder, 3) for folder in (tmp_path / "run", expected))

    def compare(ours, theirs):
        np.testing.assert_allclose(ours, theirs, atol=2e-3 * np.abs(theirs).max())

    jax.tree.map(compare, ours.segmenter.params, theirs.segmenter.params)


def test_a_soft_labelled_round_is_taught_by_its_first_state(data_dir, tmp_path):
    """Stopped within the second round, too; its labels are those of LRENT's rule."""
    config = get_config(data_dir, "lrent")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train.train_and_evaluate(config, whole)
    shutil.copytree(whole, stopped)
    forget_after(stopped, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "save_label", None)  # Nothing is labelled again.
        train.train_and_evaluate(config, stopped)
    assert_same_run(config, stopped, whole)
    first, end = (read_state(config, whole, number) for number in (3, 6))
    jax.tree.map(np.testing.assert_array_equal, end.teacher.params, first.segmenter.params)
    found = rounds.read(rounds.find_folder(whole, 1))
    np.testing.assert_array_equal(end.teacher.thresholds, np.float32(found.thresholds))
    probs = predict_target(config, whole, 3).astype(float)
    labels = read_labels(whole, 1)
    thresholds = np.array(found.thresholds)
    for image, label in zip(probs, labels, strict=True):
        _, expected, distance = crst.label_soft(image, thresholds, 0.25)
        is_clear = np.abs(distance) > 1e-5
        np.testing.assert_array_equal(label[is_clear], expected[is_clear])


def test_the_alignment_of_the_paper_goes_on_top(data_dir, tmp_path):
    config = get_config(data_dir)
    with config.unlocked():
        for domain in ("source", "target"):
            config.views[domain] = view("images", domain=domain)
        config.terms.adversarial = term("alignment", widths=(4, 4), weight=0.01)
        config.terms.adversarial.patches = placement("random", patch_size=(16, 16))
        config.num_steps = 4
    train.train_and_evaluate(config, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    found = json.loads(lines[-1])
    assert {"loss/cross_entropy", "loss/adversarial", "loss/discriminator"} <= found.keys()
