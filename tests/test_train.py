"""A run: the files that it leaves, what it starts from, continues from and stops at."""

import json
import math
import pathlib
import re
import shutil

import cv2
import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator
from alp_jax.objective import state, step
from alp_jax.run import assembly, guards, profiling, replay, train
from alp_jax.workdir import checkpoint
from alp_jax.workdir.settings import build_settings
from tests import tiny
from tests.tiny import change


def read_state(config, workdir: pathlib.Path, step: int) -> state.TrainState:
    setup = assembly.create_setup(build_settings(config))
    like = jax.eval_shape(lambda: assembly.create_train_state(setup, jax.random.key(0)))
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.restore(step, like=like)


def read_scores(workdir: pathlib.Path, step: int):
    return json.loads((workdir / "evaluation" / f"step_{step}.json").read_text())


def read_steps(workdir: pathlib.Path) -> list[int]:
    """Reads the steps of metrics.jsonl."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def assert_same_bits(a, b) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def copied(trained_run, tmp_path) -> pathlib.Path:
    """A copy of the finished run's workdir."""
    shutil.copytree(trained_run.workdir, tmp_path / "run")
    return tmp_path / "run"


# What a run leaves.


def test_one_trace_over_a_run(trained_run):
    assert trained_run.num_traces == 1


def test_the_workdir_holds_what_is_promised(trained_run):
    config, workdir, summary, _ = trained_run
    saved = json.loads((workdir / "config.json").read_text())
    assert (saved["format"], saved["num_steps"]) == (2, 6)
    for number in (0, 3, 6):
        scores = read_scores(workdir, number)
        assert scores["step"] == number
        assert scores["num_images"] == tiny.NUM_EVAL
        assert scores["num_pixels"] == tiny.NUM_EVAL * tiny.HEIGHT * tiny.WIDTH
        assert set(scores) >= {"mean_iou", "mean_iou_16", "mean_iou_13", "pixel_accuracy"}
        assert len(scores["iou_per_class"]) == 16
        confusion = np.load(workdir / "evaluation" / f"step_{number}_confusion.npy")
        assert confusion.sum() == scores["num_pixels"]
        assert (workdir / "evaluation" / f"step_{number}.png").stat().st_size > 10_000
    assert scores == summary
    kept = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert kept[-1] == config.num_steps
    assert len(kept) <= config.checkpoint.keep_last + 1


def test_metrics_are_one_object_a_line(trained_run):
    workdir = trained_run.workdir
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3, 4, 6]
    expected = {
        "loss/cross_entropy", "loss/adversarial", "loss/segmenter", "loss/discriminator",
        "loss/discriminator_source", "loss/discriminator_target", "gradient_norm/segmenter",
        "gradient_norm/discriminator", "parameter_norm/segmenter",
        "parameter_norm/discriminator", "statistics_norm/segmenter",
        "learning_rate/segmenter", "learning_rate/discriminator",
        "discriminator_accuracy/source", "discriminator_accuracy/target", "images_per_second",
        "input_wait_fraction",
    }  # fmt: skip
    assert set(lines[0]) == expected | {"step"}
    for line in lines:
        assert 0 <= line["input_wait_fraction"] <= 1
        weighted = line["loss/cross_entropy"] + 0.01 * line["loss/adversarial"]
        assert line["loss/segmenter"] == pytest.approx(weighted, rel=1e-5)
    # The poly rates of steps 4 and 5 (from 0) of 10, averaged.
    rates = [2e-3 * (1 - step / 10) ** 0.9 for step in (4, 5)]
    assert lines[-1]["learning_rate/segmenter"] == pytest.approx(np.mean(rates), rel=1e-5)


def test_tensorboard_has_scalars_and_pictures(trained_run, source_only_run):
    workdir = trained_run.workdir
    events = EventAccumulator(str(workdir), size_guidance={"tensors": 0})
    events.Reload()
    tags = [tag for kind in ("scalars", "images", "tensors") for tag in events.Tags()[kind]]
    assert {"loss/cross_entropy", "evaluation/mean_iou", "iou/traffic light"} <= set(tags)
    scores = {e.step: e.value for e in events.Scalars("evaluation/mean_iou")}
    expected = {step: read_scores(workdir, step)["mean_iou"] for step in (0, 3, 6)}
    assert scores == pytest.approx(expected, rel=1e-6)
    for column in ("image", "prediction", "label", "entropy", "confusion"):
        assert [e.step for e in events.Images(f"evaluation/{column}")] == [0, 3, 6]
    first = events.Images("evaluation/image")[0].encoded_image_string
    image = cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR)
    # The first image of the sheet is the first of the split.
    np.testing.assert_array_equal(image[..., ::-1], tiny.make_example(250)["image"])
    groups = {tag.split("/")[0] for tag in tags}
    assert groups == {"loss", "gradient_norm", "parameter_norm", "statistics_norm", "learning_rate",
                      "discriminator_accuracy", "speed", "evaluation", "iou", "run"}  # fmt: skip
    text = events.Tensors("run/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| config.terms.adversarial.weight | 0.01 |" in text
    assert "| commit | " in text
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["terms.adversarial.patches.patch_size"].string_value == "16, 16"
    assert hparams["seed"].number_value == 0
    assert "evaluation.every_steps" not in hparams
    assert not list(source_only_run.workdir.glob("events*"))  # As config.tensorboard is False.


def test_steps_are_recorded_for_the_profiler(trained_run, tmp_path):
    """One step of the run, for which a single warm-up step was enough."""
    (recorded,) = (trained_run.workdir / "plugins" / "profile").rglob("*.xplane.pb")
    assert recorded.read_bytes().count(b"step_num") >= 1
    with pytest.raises(UserError, match=r"--profile_steps is 3, and 12 steps are left to train"):
        profiling.record(lambda state, batch: (state, {}), tmp_path, num_steps=3, steps_left=12)


# Continuing.


def test_a_run_that_was_killed_continues_to_the_same_bits(trained_run, copied, caplog):
    """After the kill its last checkpoint is damaged, and a save and a line are cut short."""
    last = copied / "checkpoints" / "6"
    array = max(last.rglob("*"), key=lambda path: path.stat().st_size)
    array.write_bytes(array.read_bytes()[:-100])
    cut_short = copied / "checkpoints" / "7.unfinished.orbax-checkpoint-tmp"
    shutil.copytree(copied / "checkpoints" / "4", cut_short)
    with (copied / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    with caplog.at_level("WARNING"):
        summary = train.train_and_evaluate(trained_run.config, copied)
    assert f"checkpoints/6 is damaged ({array.relative_to(last)} is not as" in caplog.text
    assert "using that of step 4, the one before it" in caplog.text
    assert (copied / "checkpoints" / "6.damaged").is_dir()
    assert not cut_short.exists()
    assert read_steps(copied) == [2, 3, 4, 6]  # None is repeated.
    assert summary == trained_run.summary
    whole, continued = (
        read_state(trained_run.config, workdir, 6) for workdir in (trained_run.workdir, copied)
    )
    assert_same_bits(whole, continued)


def test_a_finished_run_is_not_trained_again(trained_run, monkeypatch):
    config, workdir, summary, _ = trained_run
    monkeypatch.setattr(step, "train_step", None)
    assert train.train_and_evaluate(config, workdir) == summary


# Starting from another run.


def test_starting_takes_the_segmenter_and_resuming_needs_no_start(data_dir, trained_run, tmp_path):
    shutil.copytree(trained_run.workdir, tmp_path / "start")
    config = tiny.get_config(data_dir, "source_only")
    fields = {"init_from": str(tmp_path / "start"), "model.backbone.batch_norm_mode": "running"}
    config = change(config, **fields, num_steps=1)
    train.train_and_evaluate(config, tmp_path / "run")
    start, end = read_scores(tmp_path / "run", 0), read_scores(trained_run.workdir, 6)
    assert start["iou_per_class"] == end["iou_per_class"]
    shutil.rmtree(tmp_path / "start")
    config = change(config, num_steps=2)
    assert train.train_and_evaluate(config, tmp_path / "run")["step"] == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"init_from": "/nowhere"}, r"init_from is '/nowhere', where no run is: train that one"),
        ({"model.input_order": "bgr"}, r"set --config.model.input_order=rgb, or start"),
    ],
)
def test_a_start_that_does_not_fit_is_one_sentence(trained_run, tmp_path, fields, message):
    config = change(trained_run.config, **{"init_from": str(trained_run.workdir), **fields})
    with pytest.raises(UserError, match=message):
        train.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_of_a_backbone_leave_the_classifiers_as_they_are(trained_run, tmp_path, caplog):
    config, workdir = trained_run.config, trained_run.workdir
    trained = read_state(config, workdir, 6).segmenter
    backbone = {
        "params": {"backbone": trained.params["backbone"]},
        "model_state": trained.model_state,
    }
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"segmenter": backbone})
    shutil.copy(workdir / "config.json", tmp_path)
    advent = tiny.get_config(config.data.data_dir, "advent")
    fields = {"init_from": str(tmp_path), "model.heads.main.dilations": (3, 4)}
    settings = build_settings(change(advent, **fields))
    setup = assembly.create_setup(settings)
    entry = assembly.create_train_state(setup, jax.random.key(1))
    with caplog.at_level("INFO"):
        start = assembly.init_from(settings, entry)
    assert "initialised afresh: aux_classifier, classifier." in caplog.text
    assert_same_bits(start.segmenter.params["backbone"], trained.params["backbone"])
    assert_same_bits(start.segmenter.model_state, trained.model_state)
    for part in ("classifier", "aux_classifier"):
        assert_same_bits(start.segmenter.params[part], entry.segmenter.params[part])
    assert start.discriminator is entry.discriminator


def test_converted_weights_are_no_workdir_to_train_in(trained_run, tmp_path):
    config, workdir = trained_run.config, trained_run.workdir
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"segmenter": read_state(config, workdir, 6).segmenter})
    with pytest.raises(UserError, match=r"converted weights, not a run: give them as --config.ini"):
        train.train_and_evaluate(config, tmp_path)


# Numbers that are not finite.


def test_a_loss_that_is_not_finite_stops_the_run_and_can_be_looked_at(trained_run, copied, capsys):
    saved = read_state(trained_run.config, copied, 6)
    params = jax.tree.map(lambda x: np.full_like(x, 1e30), saved.segmenter.params)
    poisoned = saved.replace(segmenter=saved.segmenter.replace(params=params))
    with checkpoint.Checkpoints(copied, keep_last=9) as checkpoints:
        checkpoints.save(7, poisoned)
    with pytest.raises(
        UserError,
        match=r"loss/cross_entropy is nan, .* at step 8 \(source images \d{5} \(record \d+\), .* "
        r"of tiny/source:train; target images 001.*; lower the learning rates or the weights of "
        r"terms, and .* the checkpoint of step 7 is kept",
    ):
        train.train_and_evaluate(change(trained_run.config, num_steps=8), copied)
    with checkpoint.Checkpoints(copied, read_only=True) as checkpoints:
        assert checkpoints.latest_whole_step() == 7
    train.replay_step(copied)
    output = capsys.readouterr().out
    assert "Not finite before the step: nothing" in output
    assert "Not finite after the step: \n  segmenter/params/" in output
    assert "loss/cross_entropy" in output.split("Not finite in the step:")[1]


def test_a_replay_runs_the_step_that_was_named_from_the_state_it_began_with(
    trained_run, copied, monkeypatch, capsys
):
    """Step 6 is said to be bad; what is saved is rebuilt from step 4, and gives the run's end."""
    shutil.rmtree(copied / "checkpoints" / "6")

    def find_fault(window, notes, first_step):
        if first_step + len(window) > 6:
            raise guards.NonFiniteError(6, {"loss/adversarial": math.nan}, notes[-1])

    monkeypatch.setattr(guards, "check_finite", find_fault)
    with pytest.raises(UserError, match=r"loss/adversarial is nan at step 6 .* of step 4 is kept"):
        train.train_and_evaluate(trained_run.config, copied)
    outcomes = []
    print_outcome = replay.print_outcome
    monkeypatch.setattr(
        replay, "print_outcome", lambda *args: outcomes.append(args) or print_outcome(*args)
    )
    train.replay_step(copied)
    ((found, after, scalars),) = outcomes
    assert_same_bits(after, read_state(trained_run.config, trained_run.workdir, 6))
    assert found.state.step == 5
    assert math.isfinite(scalars["loss/adversarial"])
    output = capsys.readouterr().out
    assert "Not finite in the step: nothing, this time" in output
    assert re.search(r"Batch: source images 000\d\d \(record", output)


# Evaluating.


def test_evaluating_a_checkpoint_gives_the_scores_of_training(trained_run):
    workdir = trained_run.workdir
    best = evaluator.evaluate_checkpoint(workdir, None, checkpoint_name="best", split=None)
    assert best.summary == max(
        (read_scores(workdir, step) for step in (3, 6)), key=lambda scores: scores["mean_iou"]
    )
    assert best.stem == f"step_{best.summary['step']}"


def test_another_split_or_dataset_has_files_of_its_own(trained_run, copied):
    result = evaluator.evaluate_checkpoint(copied, None, checkpoint_name="6", split="test")
    assert result.save(copied).name == "step_6_test.json"
    assert result.summary["split"] == "test"
    other = change(trained_run.config, **{"evaluation.dataset": "tiny/source"})
    result = evaluator.evaluate_checkpoint(copied, other, checkpoint_name="latest", split=None)
    assert result.save(copied).name == "step_6_tiny_source_validation.json"
    assert read_scores(copied, 6) == trained_run.summary
