import dataclasses
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
from tensorboard.util.tensor_util import make_ndarray

from alp_jax.command import progress
from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator
from alp_jax.objective import state, steps
from alp_jax.run import assembly, guards, replay, train
from alp_jax.workdir import checkpoint
from tests import tiny


def final_state(config, workdir: pathlib.Path, step: int) -> state.TrainState:
    statics = assembly.create_statics(config)
    like = assembly.create_train_state(statics, jax.random.key(0))
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.restore(step, like=like)


def read_scores(workdir: pathlib.Path, step: int):
    return json.loads((workdir / "evaluation" / f"step_{step}.json").read_text())


def assert_same_bits(a, b) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """A finished run of ALP, with how often its train step was traced."""
    workdir = tmp_path_factory.mktemp("alp_gi")
    config = tiny.get_config(data_dir)
    with config.unlocked():
        config.model.batch_norm_mode = "running"
        config.tensorboard = True
    traces = []
    train_step = steps.train_step

    def counted(*args, **kwargs):
        traces.append(1)
        return train_step(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "train_step", counted)
        summary = train.train_and_evaluate(config, workdir)
    return config, workdir, summary, len(traces)


def test_one_trace_over_a_run(run):
    assert run[3] == 1


def test_the_workdir_holds_what_is_promised(run):
    config, workdir, summary, _ = run
    assert json.loads((workdir / "config.json").read_text())["num_steps"] == 6
    for step in (0, 3, 6):
        scores = read_scores(workdir, step)
        assert scores["step"] == step
        assert scores["num_images"] == tiny.NUM_EVAL
        assert scores["num_pixels"] == tiny.NUM_EVAL * tiny.HEIGHT * tiny.WIDTH
        assert set(scores) >= {"mean_iou", "mean_iou_16", "mean_iou_13", "pixel_accuracy"}
        assert len(scores["iou_per_class"]) == 16
        confusion = np.load(workdir / "evaluation" / f"step_{step}_confusion.npy")
        assert confusion.sum() == scores["num_pixels"]
        assert (workdir / "evaluation" / f"step_{step}.png").stat().st_size > 10_000
    assert scores == summary
    kept = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert kept[-1] == config.num_steps
    assert len(kept) <= config.checkpoint.keep_last + 1


def test_metrics_are_one_object_a_line(run):
    _, workdir, _, _ = run
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


def test_tensorboard_has_scalars_and_pictures(run):
    _, workdir, _, _ = run
    events = EventAccumulator(str(workdir), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    assert {"loss/cross_entropy", "evaluation/mean_iou", "iou/road"} <= set(tags)
    scores = {e.step: make_ndarray(e.tensor_proto) for e in events.Tensors("evaluation/mean_iou")}
    expected = {step: read_scores(workdir, step)["mean_iou"] for step in (0, 3, 6)}
    assert scores == pytest.approx(expected, rel=1e-6)
    for column in ("image", "prediction", "label", "entropy", "confusion"):
        assert [e.step for e in events.Tensors(f"evaluation/{column}")] == [0, 3, 6]
    # Width, height and a PNG of each picture.
    _, _, first, *_ = make_ndarray(events.Tensors("evaluation/image")[0].tensor_proto)
    image = cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR)
    # The first image of the sheet is the first of the split.
    np.testing.assert_array_equal(image[..., ::-1], tiny.make_example(250)["image"])
    groups = {tag.split("/")[0] for tag in tags}
    assert groups == {"loss", "gradient_norm", "parameter_norm", "statistics_norm", "learning_rate",
                      "discriminator_accuracy", "speed", "evaluation", "iou", "run",
                      "_hparams_"}  # fmt: skip
    text = events.Tensors("run")[0].tensor_proto.string_val[0].decode()
    assert "| config.objective.adversarial_weight | 0.01 |" in text
    assert "| commit | " in text
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["objective.patch_size"].string_value == "16, 16"
    assert hparams["seed"].number_value == 0
    assert "evaluation.every_steps" not in hparams


def test_the_same_seed_gives_the_same_bits(run, tmp_path):
    config, workdir, _, _ = run
    train.train_and_evaluate(config, tmp_path)
    assert_same_bits(final_state(config, workdir, 6), final_state(config, tmp_path, 6))


def stop_at(config, step: int):
    """The same run, of fewer steps; the schedule's horizon is a field of its own."""
    stopped = config.copy_and_resolve_references()
    with stopped.unlocked():
        stopped.num_steps = step
    return stopped


def test_resuming_gives_the_bits_of_never_having_stopped(run, tmp_path):
    config, workdir, summary, _ = run
    train.train_and_evaluate(stop_at(config, 3), tmp_path)
    resumed = train.train_and_evaluate(config, tmp_path)
    assert_same_bits(final_state(config, workdir, 6), final_state(config, tmp_path, 6))
    assert resumed == summary
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 3, 4, 6]


def test_resuming_after_a_kill_repeats_no_line(run, tmp_path):
    config, workdir, _, _ = run
    train.train_and_evaluate(stop_at(config, 4), tmp_path)
    # As if killed while writing step 6's line, before its checkpoint.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "loss/cross_entropy": 1.0}\n{"step": 6, "lo')
    train.train_and_evaluate(config, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 3, 4, 6]
    assert_same_bits(final_state(config, workdir, 6), final_state(config, tmp_path, 6))


def test_a_save_that_was_cut_short_is_no_checkpoint_and_is_removed(run, tmp_path):
    config = stop_at(run[0], 3)
    train.train_and_evaluate(config, tmp_path)
    cut_short = tmp_path / "checkpoints" / "5.unfinished.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "checkpoints" / "3", cut_short)
    with checkpoint.Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.latest_whole_step() == 3
    assert cut_short.exists()
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_whole_step() == 3
    assert not cut_short.exists()


def test_a_finished_run_is_not_trained_again(run, monkeypatch):
    config, workdir, summary, _ = run
    monkeypatch.setattr(steps, "train_step", None)
    assert train.train_and_evaluate(config, workdir) == summary


def test_time_left_counts_the_domains_that_are_read(data_dir, tmp_path, monkeypatch):
    reports = []
    monkeypatch.setattr(progress.TrainProgress, "report", lambda _, *report: reports.append(report))
    config = tiny.get_config(data_dir, "source_only")
    train.train_and_evaluate(config, tmp_path)
    for step, scalars, seconds_left in reports:
        expected = (6 - step) * config.data.batch_size / scalars["images_per_second"]
        assert seconds_left == pytest.approx(expected)
    assert reports[0][0] == 2


@pytest.mark.parametrize("variant", ["source_only", "ap_ci", "agp_gi"])
def test_every_method_trains(data_dir, tmp_path, variant):
    config = tiny.get_config(data_dir, variant)
    summary = train.train_and_evaluate(config, tmp_path)
    assert summary["step"] == 6
    assert 0 < summary["mean_iou"] < 1
    assert not list(tmp_path.glob("events*"))  # As config.tensorboard is False.


def test_starting_from_another_run_takes_its_segmenter(run, data_dir, tmp_path):
    config, workdir, _, _ = run
    config = stop_at(config, 1)
    with config.unlocked():
        config.init_from = str(workdir)
        config.objective.use_target = False
    train.train_and_evaluate(config, tmp_path)
    start, end = read_scores(tmp_path, 0), read_scores(workdir, 6)
    assert start["iou_per_class"] == end["iou_per_class"]


def test_resuming_needs_no_start_any_more(run, tmp_path):
    config, workdir, _, _ = run
    config = stop_at(config, 1)
    with config.unlocked():
        config.init_from = str(tmp_path / "start")
    shutil.copytree(workdir, tmp_path / "start")
    train.train_and_evaluate(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "start")
    with config.unlocked():
        config.num_steps = 2
    assert train.train_and_evaluate(config, tmp_path / "run")["step"] == 2


def test_starting_from_nowhere_is_one_sentence(data_dir, tmp_path):
    config = tiny.get_config(data_dir)
    with config.unlocked():
        config.init_from = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"init_from is '.*nowhere', where no run is: train"):
        train.train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_starting_from_another_network_is_one_sentence(run, tmp_path):
    config, workdir, _, _ = run
    other = config.copy_and_resolve_references()
    with other.unlocked():
        other.init_from = str(workdir)
        other.model.widths = (12, 12)
    with pytest.raises(
        UserError, match=r"config.model.widths \[8, 8\], and .* has \[12, 12\]: set"
    ):
        train.train_and_evaluate(other, tmp_path)


def test_starting_from_weights_that_expect_other_pixels_is_one_sentence(run, tmp_path):
    config, workdir, _, _ = run
    other = config.copy_and_resolve_references()
    with other.unlocked():
        other.init_from = str(workdir)
        other.model.input_order = "bgr"
    with pytest.raises(UserError, match=r"set --config.model.input_order=rgb, or start"):
        train.train_and_evaluate(other, tmp_path)


def test_weights_of_a_backbone_leave_the_classifiers_as_they_are(run, tmp_path, caplog):
    config, workdir, _, _ = run
    trained = final_state(config, workdir, 6).segmenter
    backbone = {
        "params": {"backbone": trained.params["backbone"]},
        "model_state": trained.model_state,
    }
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"segmenter": backbone})
    shutil.copy(workdir / "config.json", tmp_path)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.init_from = str(tmp_path)
        config.model.aux_classifier = True
        config.model.classifier_dilations = (3, 4)
    entry = assembly.create_train_state(assembly.create_statics(config), jax.random.key(1))
    with caplog.at_level("INFO"):
        start = assembly.init_from(config, entry).segmenter
    assert "initialised afresh: aux_classifier, classifier." in caplog.text
    assert_same_bits(start.params["backbone"], trained.params["backbone"])
    assert_same_bits(start.model_state, trained.model_state)
    for part in ("classifier", "aux_classifier"):
        assert_same_bits(start.params[part], entry.segmenter.params[part])
    assert assembly.init_from(config, entry).discriminator is entry.discriminator


def test_converted_weights_are_no_workdir_to_train_in(run, tmp_path):
    config, workdir, _, _ = run
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(0, {"segmenter": final_state(config, workdir, 6).segmenter})
    with pytest.raises(UserError, match=r"converted weights, not a run: give them as --config.ini"):
        train.train_and_evaluate(config, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(run, tmp_path):
    config = stop_at(run[0], 2)
    train.train_and_evaluate(config, tmp_path)
    saved = final_state(config, tmp_path, 2)
    params = jax.tree.map(lambda x: np.full_like(x, np.nan), saved.segmenter.params)
    poisoned = saved.replace(segmenter=saved.segmenter.replace(params=params))
    with checkpoint.Checkpoints(tmp_path, keep_last=9) as checkpoints:
        checkpoints.save(3, poisoned)
    with pytest.raises(
        UserError,
        match=r"loss/cross_entropy is nan, .* at step 4 \(source images \d{5} \(record \d+\), .* "
        r"of tiny/source:train; target images 001.* the checkpoint of step 3 is kept",
    ):
        train.train_and_evaluate(run[0], tmp_path)
    with checkpoint.Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.latest_whole_step() == 3


def test_a_replay_runs_the_step_that_was_named_from_the_state_it_began_with(
    run, tmp_path, monkeypatch, capsys
):
    """Step 6 is said to be bad; what is saved is rebuilt from step 4, and gives the run's end."""
    config, workdir, _, _ = run

    def find_fault(window, ids, first_step):
        if first_step + len(window) > 6:
            raise guards.NonFiniteError(6, {"loss/adversarial": math.nan}, ids[-1])

    monkeypatch.setattr(guards, "check_finite", find_fault)
    with pytest.raises(UserError, match=r"loss/adversarial is nan at step 6 .* of step 4 is kept"):
        train.train_and_evaluate(config, tmp_path)
    outcomes = []
    print_outcome = replay.print_outcome
    monkeypatch.setattr(
        replay, "print_outcome", lambda *args: outcomes.append(args) or print_outcome(*args)
    )
    train.replay_step(tmp_path)
    ((found, after, scalars),) = outcomes
    assert_same_bits(after, final_state(config, workdir, 6))
    assert found.state.step == 5
    assert math.isfinite(scalars["loss/adversarial"])
    output = capsys.readouterr().out
    assert "Not finite in the step: nothing, this time" in output
    assert re.search(r"Batch: source images 000\d\d \(record", output)

    # A number of that file that is not finite is told, and a file that is not whole refused.
    params = jax.tree.map(lambda leaf: np.full_like(leaf, np.inf), found.state.segmenter.params)
    segmenter = found.state.segmenter.replace(params=params)
    bad = dataclasses.replace(found, state=found.state.replace(segmenter=segmenter))
    replay.write(tmp_path / replay.FILE_NAME, bad)
    train.replay_step(tmp_path)
    output = capsys.readouterr().out
    assert "Not finite before the step: \n  .segmenter.params['backbone']" in output
    assert "loss/cross_entropy" in output.split("Not finite in the step:")[1]
    data = (tmp_path / replay.FILE_NAME).read_bytes()
    (tmp_path / replay.FILE_NAME).write_bytes(data[:-100])
    with pytest.raises(UserError, match=r"replay.npz is damaged .*: train again"):
        train.replay_step(tmp_path)
    (tmp_path / replay.FILE_NAME).unlink()
    with pytest.raises(UserError, match=r"No replay file .*: training leaves one where"):
        train.replay_step(tmp_path)


def test_evaluating_a_checkpoint_gives_the_scores_of_training(run):
    _, workdir, summary, _ = run
    result = evaluator.evaluate_checkpoint(workdir, None, checkpoint_name="latest", split=None)
    assert result.summary == summary
    assert result.stem == "step_6"
    best = evaluator.evaluate_checkpoint(workdir, None, checkpoint_name="best", split=None)
    scores = [read_scores(workdir, step)["mean_iou"] for step in (3, 6)]
    assert best.summary["mean_iou"] == max(scores)


def test_another_split_has_files_of_its_own(run):
    config, workdir, summary, _ = run
    result = evaluator.evaluate_checkpoint(workdir, None, checkpoint_name="6", split="test")
    assert result.save(workdir).name == "step_6_test.json"
    assert result.summary["split"] == "test"
    other = config.copy_and_resolve_references()
    other.evaluation.dataset = "tiny/source"
    result = evaluator.evaluate_checkpoint(workdir, other, checkpoint_name="6", split=None)
    assert result.save(workdir).name == "step_6_tiny_source_validation.json"
    assert read_scores(workdir, 6) == summary


def test_a_checkpoint_that_is_not_there_is_one_sentence(run):
    _, workdir, _, _ = run
    for name, message in [("5", "No checkpoint '5' in .*: it holds"), ("final", "expected latest")]:
        with pytest.raises(UserError, match=message):
            evaluator.evaluate_checkpoint(workdir, None, checkpoint_name=name, split=None)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(run, tmp_path, caplog):
    config, workdir, _, _ = run
    train.train_and_evaluate(stop_at(config, 4), tmp_path)
    array = max((tmp_path / "checkpoints" / "4").rglob("*"), key=lambda path: path.stat().st_size)
    array.write_bytes(array.read_bytes()[:-100])
    with caplog.at_level("WARNING"):
        train.train_and_evaluate(config, tmp_path)
    assert (
        f"checkpoints/4 is damaged ({array.relative_to(tmp_path / 'checkpoints' / '4')} is not"
        in (caplog.text)
    )
    assert "using that of step 3, the one before it" in caplog.text
    assert (tmp_path / "checkpoints" / "4.damaged").is_dir()
    assert_same_bits(final_state(config, workdir, 6), final_state(config, tmp_path, 6))


def test_steps_are_recorded_for_the_profiler(run, tmp_path):
    config = run[0].copy_and_resolve_references()
    with config.unlocked():
        config.num_steps = config.optimizer.horizon_steps = 12
        config.evaluation.every_steps = config.checkpoint.every_steps = 12
    train.train_and_evaluate(config, tmp_path / "run", profile_steps=2)
    (recorded,) = (tmp_path / "run" / "plugins" / "profile").rglob("*.xplane.pb")
    data = recorded.read_bytes()
    assert data.count(b"step_num") >= 1
    with pytest.raises(UserError, match=r"--profile_steps is 3, and 12 steps are left to train"):
        train.train_and_evaluate(config, tmp_path / "short", profile_steps=3)
