"""The training loop with steps that do nothing: when it saves, evaluates, stops and warns."""

import contextlib
import json
import os
import re
import signal

import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax.command import progress, stopping
from alp_jax.data.samples import Loaded, Notes, Sample
from alp_jax.errors import Stopped, UserError
from alp_jax.objective import state
from alp_jax.objective.settings import create_objective
from alp_jax.objective.terms.alignment import Alignment, DiscriminatorWatch
from alp_jax.run import guards, loop
from alp_jax.settings.compare import flatten
from alp_jax.workdir import checkpoint, scores, skipped, writers
from alp_jax.workdir.settings import build_settings
from configs import toy_cities
from tests.faults import disks


def create_state(step: int) -> state.TrainState:
    segmenter = state.SegmenterState({"kernel": jnp.full(8, 1.0 * step)}, {}, ())
    return state.TrainState(jnp.asarray(step), segmenter, None)


class FakeEvaluation:
    summary = {"mean_iou": 0.5, "dataset": "tiny", "split": "validation", "iou_per_class": {}}  # noqa: RUF012
    panels, label_set = (), None

    def __init__(self, step: int):
        self.summary = {**self.summary, "step": step}

    def in_one_line(self) -> str:
        return "mean IoU 50 %"

    def paint(self) -> dict:
        return {}

    def save(self, workdir) -> None:
        path = scores.summary_path(workdir, self.summary["step"])
        try:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(self.summary))
        except OSError as error:
            raise UserError(f"The evaluation cannot be written ({error.strerror}).") from error


class Training:
    """A loop of 12 steps that saves every 2 and evaluates every 4."""

    def __init__(self, workdir, monkeypatch, scalars=None, variant="alp_gi"):
        self.workdir, self.evaluated, self.stepped, self.reports = workdir, [], [], []
        self.on_step = self.on_evaluate = lambda step: None
        self._scalars = scalars or {}
        self.config = toy_cities.get_config(variant)
        with self.config.unlocked():
            self.config.num_steps, self.config.log_every_steps = 12, 3
            self.config.checkpoint.every_steps = 2
            self.config.evaluation.every_steps = 4
            self.config.evaluation.dataset = "tiny"
            if "adversarial" in self.config.terms:
                self.config.terms.adversarial.watch_patience = 2
        monkeypatch.setattr(loop.pipeline, "iterate", lambda batches, start, **_: batches(start))
        monkeypatch.setattr(writers.MetricsWriter, "write_evaluation", lambda *_: None)

    def evaluate(self, variables, *, step):
        self.evaluated.append(step)
        self.on_evaluate(step)
        return FakeEvaluation(step)

    def _step(self, entry, batch):
        step = int(entry.step) + 1
        self.stepped.append(step)
        self.on_step(step)
        scalars = {"loss/segmenter": 1.0, **self._scalars.get(step, {})}
        return create_state(step), {name: jnp.asarray(value) for name, value in scalars.items()}

    def _batches(self, start):
        for step in range(start, 100):
            notes = Notes(np.array([step]), np.array([-1]))
            yield Loaded({"source": Sample(np.zeros(1))}, {"source": notes})

    def run(self, start=0):
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(stopping.StopRequest())
            checkpoints = stack.enter_context(checkpoint.Checkpoints(self.workdir, keep_last=9))
            self.checkpoints = checkpoints
            writer = stack.enter_context(
                writers.MetricsWriter(self.workdir, from_step=start, writes_events=True)
            )
            settings = build_settings(self.config)
            bar = progress.TrainProgress(start, 12)
            bar.report = lambda *report: self.reports.append(report)
            training = loop.TrainLoop(
                settings, self.workdir, self, checkpoints, writer, bar, stop,
                objective=create_objective(settings.views, settings.terms, heads=("main",)),
            )  # fmt: skip
            return training.run(
                self._step, lambda loaded: loaded, create_state(start), self._batches, start
            )

    def fill(self, disk):
        """Fills a disk, once what is being saved in the background is there."""
        self.checkpoints.ensure_saved(0)
        disks.fill(disk / "ballast")

    def steps(self):
        with checkpoint.Checkpoints(self.workdir) as checkpoints:
            return checkpoints.steps()

    def lines(self):
        path = self.workdir / writers.FILE_NAME
        return [json.loads(line)["step"] for line in path.read_text().splitlines()]


@pytest.fixture
def training(tmp_path, monkeypatch):
    return Training(tmp_path, monkeypatch)


def signal_at(step, number=signal.SIGTERM):
    return lambda at: os.kill(os.getpid(), number) if at == step else None


def test_untouched_it_saves_evaluates_and_reports_at_its_intervals(training):
    assert training.run().step == 12
    assert training.steps() == [2, 4, 6, 8, 10, 12]
    assert training.evaluated == [0, 4, 8, 12]
    assert training.lines() == [2, 3, 4, 6, 8, 9, 10, 12]


@pytest.mark.parametrize(("variant", "num_domains"), [("alp_gi", 2), ("source_only", 1)])
def test_time_left_counts_the_domains_that_are_read(tmp_path, monkeypatch, variant, num_domains):
    training = Training(tmp_path, monkeypatch, variant=variant)
    training.run()
    assert [step for step, _, _ in training.reports] == training.lines()
    for step, scalars, seconds_left in training.reports:
        images_left = (12 - step) * num_domains * training.config.data.batch_size
        assert seconds_left == pytest.approx(images_left / scalars["images_per_second"])


@pytest.mark.parametrize(
    ("step", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT), (3, signal.SIGTERM),
                         (11, signal.SIGINT)],
)  # fmt: skip
def test_a_signal_in_a_step_finishes_it_saves_and_stops(training, step, number):
    """Step 2 is saved anyway, step 3 is reported and not saved, 1 and 11 neither."""
    training.on_step = signal_at(step, number)
    with pytest.raises(Stopped, match=rf"Stopped by {number.name} at step {step} of 12, which is"):
        training.run()
    assert training.steps()[-1] == step
    assert training.stepped[-1] == step
    assert training.lines()[-1] == step


def test_a_signal_in_an_evaluation_ends_it_after_its_step_was_saved(training):
    training.on_evaluate = signal_at(4)
    with pytest.raises(Stopped, match="the same command continues"):
        training.run()
    assert training.steps() == [2, 4]
    training.on_evaluate = lambda step: None
    training.run(start=4)
    assert training.evaluated == [0, 4, 4, 8, 12]


def test_what_was_evaluated_is_not_evaluated_again_on_resuming(training):
    training.on_step = signal_at(5)
    with pytest.raises(Stopped):
        training.run()
    training.run(start=5)
    assert training.evaluated == [0, 4, 8, 12]


@pytest.mark.parametrize(
    ("term", "value", "step"),
    [
        ("loss/segmenter", np.nan, 1),
        ("gradient_norm/segmenter", np.inf, 5),
        ("loss/segmenter", -np.inf, 6),
    ],
)
def test_the_first_step_that_is_not_finite_is_named_and_not_saved(
    tmp_path, monkeypatch, term, value, step
):
    bad = {at: {"gradient_norm/segmenter": 1.0} for at in range(1, 13)}
    bad[step] = {"gradient_norm/segmenter": 1.0, term: value}
    training = Training(tmp_path, monkeypatch, bad)
    with pytest.raises(guards.NonFiniteError) as caught:
        training.run()
    assert caught.value.step == step
    assert list(caught.value.terms) == [term]
    assert caught.value.notes["source"].ids.tolist() == [step - 1]
    assert training.steps()[-1:] == ([4] if step > 4 else [])


@pytest.mark.parametrize(("accuracy", "verdict"), [(1.0, "has won"), (0.5, "has collapsed")])
def test_a_game_that_is_over_is_a_warning_that_says_what_to_try(
    tmp_path, monkeypatch, caplog, accuracy, verdict
):
    names = ("discriminator_accuracy/source", "discriminator_accuracy/target")
    pinned = {step: dict.fromkeys(names, accuracy) for step in range(1, 13)}
    pinned[1] = dict(zip(names, (0.9, 0.6), strict=True))
    training = Training(tmp_path, monkeypatch, pinned)
    training.run()
    (record,) = [r for r in caplog.records if "discriminator" in r.message]
    # The report of step 2 averages 1 and 2; those of 3 and 4 are the first two on end.
    assert f"{verdict}: its accuracy was {accuracy} in the last 2 reports to step 4" in (
        record.message
    )
    assert "try" in record.message
    fields = [field.rstrip(".") for field in re.findall(r"config\.([a-z_.]+)", record.message)]
    assert len(fields) == 3
    known = flatten(training.config)
    for field in fields:  # The advice names fields, or blocks, that there are.
        assert any(f"{name}.".startswith(f"{field}.") for name in known), field


def test_the_watch_starts_again_when_the_accuracy_leaves():
    def update(watch, source, target):
        averages = dict(zip(term.accuracies, (source, target), strict=True))
        warning = watch.update(7, averages)
        return warning and warning.split(":")[0]

    term = Alignment("adversarial", watch_patience=2, watch_tolerance=0.01)
    watch = DiscriminatorWatch(term)
    pairs = [
        (1.0, 0.99),
        (0.9, 0.9),
        (1.0, 1.0),
        (1.0, 1.0),
        (1.0, 1.0),
        (0.7, 0.7),
        (0, 1),
        (0, 1),
    ]
    assert [update(watch, *pair) for pair in pairs] == [
        None, None, None, "The discriminator has won", None, None, None,
        "The discriminator has collapsed",
    ]  # fmt: skip
    never = DiscriminatorWatch(Alignment("adversarial", watch_patience=0))
    assert update(never, 1, 1) is None
    assert watch.update(8, {"loss/segmenter": 1.0}) is None


def test_a_full_disk_does_not_stop_a_run_until_its_end(tmp_path, monkeypatch, caplog):
    """Checkpoint, evaluation, metrics and TensorBoard fail from step 5 to 8 and not after."""
    with disks.small(tmp_path, kilobytes=2000) as disk:
        training = Training(disk, monkeypatch)

        def fill_and_free(step):
            if step == 5:
                training.fill(disk)
            elif step == 9:
                with pytest.raises(UserError, match="step 8 could not be saved"):
                    training.checkpoints.ensure_saved(8)
                (disk / "ballast").unlink()

        training.on_step = fill_and_free
        training.run()
        assert training.steps() == [2, 4, 10, 12]
        assert training.lines() == [2, 3, 4, 6, 8, 9, 10, 12]
    for text in (
        "The checkpoint of step 6 could not be saved",
        "The checkpoint of step 8 could not be saved",
        "The evaluation cannot be written (No space left on device). The run goes on.",
    ):
        assert text in caplog.text


def test_lines_that_a_full_disk_cuts_are_written_when_there_is_room(tmp_path, caplog):
    with disks.small(tmp_path, kilobytes=100) as disk:
        with writers.MetricsWriter(disk, from_step=0, writes_events=True) as writer:
            writer.write_scalars(1, {"loss/segmenter": 1.0})
            disks.fill(disk / "ballast")
            for step in range(2, 300):
                writer.write_scalars(step, {"loss/segmenter": 1.0})
            assert "metrics.jsonl could not be written" in caplog.text
            (disk / "ballast").unlink()
            writer.write_scalars(300, {"loss/segmenter": 1.0})
        lines = (disk / writers.FILE_NAME).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 301))


def test_a_disk_that_is_full_at_the_end_is_one_sentence_and_keeps_what_was_saved(
    tmp_path, monkeypatch
):
    with disks.small(tmp_path, kilobytes=2000) as disk:
        training = Training(disk, monkeypatch)
        training.on_step = lambda step: training.fill(disk) if step == 9 else None
        with pytest.raises(
            UserError, match=r"step 12 could not be saved .*No space left on device"
        ):
            training.run()
        assert training.steps() == [2, 4, 6, 8]


def test_corrupt_records_are_counted_over_all_starts(tmp_path, data_dir, caplog):
    config = toy_cities.get_config("alp_gi")
    with config.unlocked():
        config.data.data_dir, config.data.source = str(data_dir), "tiny/source"
        config.data.target, config.data.max_bad_records = "tiny/target_unlabelled", 2
    data = build_settings(config).data

    def note(**skipped_records):
        return {
            domain: Notes(np.zeros(len(records)), np.array(records))
            for domain, records in skipped_records.items()
        }

    batch = note(source=[-1, 3], target=[-1, -1])
    first = skipped.SkippedRecords(tmp_path, data)
    first.update(batch)
    first.update(batch)
    assert "record 3 of tiny/source:train (number 3 in " in caplog.text
    assert "(1 of at most 2, listed in" in caplog.text
    again = skipped.SkippedRecords(tmp_path, data)
    again.update(batch)
    again.update(note(source=[3, 4]))
    assert [r.name for r in caplog.records].count(skipped.__name__) == 2
    with pytest.raises(
        UserError, match=r"^3 records are corrupt, more than the 2 of config.data.max_bad_records"
    ):
        again.update(note(target=[4]))
    assert len(json.loads((tmp_path / skipped.FILE_NAME).read_text())) == 3
    (tmp_path / skipped.FILE_NAME).write_text("[")
    with pytest.raises(UserError, match=r"skipped_records.json cannot be read"):
        skipped.SkippedRecords(tmp_path, data)
