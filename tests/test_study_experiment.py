"""An experiment of many methods: what it plans, chooses, continues and says of the time left."""

import csv
import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from alp_jax.errors import UserError
from alp_jax.study import experiment as experiments
from alp_jax.study import method_documents, outputs, scores, scoring, timing
from alp_jax.study.experiment import Entry, Experiment, over, with_alignment
from alp_jax.study.tuning import Tuner
from configs.experiments import methods
from tests.commands import call, read_error
from tests.studies import FakeTraining, write_config

WEIGHT = "terms.adversarial.weight"


@pytest.fixture
def fake(monkeypatch) -> FakeTraining:
    # Pictures have a test of their own, and take most of the time here.
    monkeypatch.setattr(method_documents.method_picture, "draw", lambda *_: None)
    monkeypatch.setattr(method_documents.figures, "save", lambda _, path: path.touch())
    return FakeTraining.replace_training(monkeypatch)


@pytest.fixture(scope="module")
def config_file(data_dir, tmp_path_factory) -> pathlib.Path:
    return write_config(data_dir, tmp_path_factory.mktemp("config"))


def create(config_file, tmp_path, **changed) -> Experiment:
    """Source-only with both alignments, ALP with its weight, and an ensemble; read from a file."""
    mean = tmp_path / "mean.py"
    mean.write_text('MEMBERS = {"source_only": 1, "alp_gi": 1}')
    fields = {
        "config": str(config_file),
        "entries": (
            *with_alignment(Entry("source_only", title="Source-only"), 0.1, 0.2),
            Entry(str(mean)),
            Entry("alp_gi", over(WEIGHT, 0.01, 0.02)),
        ),
        "seeds": (0, 1),
        "tuning_seeds": (5,),
        "seconds_per_step": 10.0,
        **changed,
    }
    path = tmp_path / "experiment.py"
    path.write_text(
        "from alp_jax.study.experiment import Entry, Experiment\n\n"
        f"EXPERIMENT = {Experiment(**fields)!r}\n"
    )
    return experiments.load(str(path))


def run(experiment, workdir) -> scores.Study:
    return outputs.run_experiment(Tuner(experiment, workdir), "command")


def names(paths, workdir):
    return [str(path.relative_to(workdir)) for path in paths]


def test_methods_choose_before_their_seeds_are_trained(fake, config_file, tmp_path):
    workdir = tmp_path / "study"
    study = run(create(config_file, tmp_path), workdir)
    trained = names(fake.trained, workdir)
    assert trained[:7] == [
        "starts/warmup/seed_5",
        "alp_gi-terms.adversarial.weight-0.01/seed_5",
        "alp_gi-terms.adversarial.weight-0.02/seed_5",
        "source_only+agp-terms.adversarial_agp.weight-0.1/seed_5",
        "source_only+agp-terms.adversarial_agp.weight-0.2/seed_5",
        "source_only+alp-terms.adversarial_alp.weight-0.1/seed_5",
        "source_only+alp-terms.adversarial_alp.weight-0.2/seed_5",
    ]
    assert len(trained) == len(set(trained)) == 3 + 6 + 2 * 4
    assert list(study.by_setting()) == [
        *("source_only", "source_only+agp", "source_only+alp", "mean", "alp_gi"),
    ]
    assert {run.seed for run in study.runs} == {0, 1}
    chosen = json.loads((workdir / "tuning.json").read_text())
    assert "with target labels" in chosen["score"]
    for name in ("source_only+alp", "source_only+agp", "alp_gi"):
        choice = chosen["methods"][name]
        found = [candidate["mean_iou"] for candidate in choice["candidates"]]
        assert choice["chosen"] == int(np.argmax(np.mean(found, axis=1)))
        fields = choice["candidates"][choice["chosen"]]["fields"]
        (field, value) = next(iter(fields.items()))
        used = study.by_setting()[name]
        assert [run.workdir for run in used] == [f"{name}-{field}-{value}/seed_{s}" for s in (0, 1)]
        # The scores are those of the last step on the evaluation split, of the seed to choose by.
        path = workdir / f"{name}-{field}-{value}" / "seed_5" / scoring.SCORES_FILE
        assert (
            json.loads(path.read_text())["evaluations"][-1]["mean_iou"]
            == found[choice["chosen"]][0]
        )
    mean = study.by_setting()["mean"][0]
    assert set(mean.members) == {
        "source_only/seed_0",
        study.by_setting()["alp_gi"][0].workdir,
    }


def test_a_candidate_that_diverges_is_not_chosen(fake, config_file, tmp_path):
    workdir, experiment = tmp_path / "study", create(config_file, tmp_path)
    best = "alp_gi-terms.adversarial.weight-0.01/seed_5", "alp_gi-terms.adversarial.weight-0.02"
    fake.diverges = (best[0],)
    run(experiment, workdir)
    chosen = json.loads((workdir / "tuning.json").read_text())["methods"]["alp_gi"]
    assert chosen["candidates"][0]["mean_iou"] == ["diverged"]
    assert chosen["chosen"] == 1
    assert "diverged" in (workdir / "methods.md").read_text()
    trained = len(fake.trained)
    run(experiment, workdir)
    assert len(fake.trained) == trained
    # A run to report has no number then.
    fake.diverges = (f"{best[1]}/seed_1",)
    shutil.rmtree(workdir / best[1] / "seed_1")
    with pytest.raises(UserError, match="loss/adversarial is inf at step 4"):
        run(experiment, workdir)
    fake.diverges = ("0.01/seed_5", "0.02/seed_5")
    with pytest.raises(UserError, match=r"All candidates of alp_gi diverged: .* is inf at step 4"):
        run(experiment, tmp_path / "other")


def test_an_addition_begins_with_what_its_base_chose(fake, config_file, tmp_path):
    entries = with_alignment(Entry("agp_gi", over(WEIGHT, 0.01, 0.02)), 0.1, 0.2)
    study = run(create(config_file, tmp_path, entries=entries), tmp_path / "study")
    base, _, patches = (runs[0].workdir for runs in study.by_setting().values())
    chosen = base.partition("-")[2].partition("/")[0]
    assert patches.startswith(f"agp_gi+alp-{chosen}-terms.adversarial_alp.weight-0.")


def test_a_report_compares_what_the_experiment_compares(fake, config_file, tmp_path, monkeypatch):
    workdir = tmp_path / "study"
    study = run(create(config_file, tmp_path), workdir)
    assert scores.load(workdir) == study
    described = json.loads((workdir / "methods.json").read_text())
    pairs = [(d["first"], d["second"]) for d in described["differences"]["mean_iou"]]
    assert pairs == [
        *(("mean", "source_only"), ("alp_gi", "source_only")),
        *(("source_only+agp", "source_only"), ("source_only+alp", "source_only")),
        ("source_only+alp", "source_only+agp"),
    ]
    pages = []
    monkeypatch.setattr(
        outputs.writing, "write_report", lambda *_, sections, **__: pages.append(sections)
    )
    outputs.write_report(workdir)
    _, scored, _, differences = pages[0][0].parts
    assert [row[0] for row in differences.rows] == [f"{a} minus {b}" for a, b in pairs]
    assert [row[0] for row in scored.rows] == list(study.by_setting())  # No last minus first.


def test_a_killed_experiment_ends_in_the_same_numbers(fake, config_file, tmp_path):
    experiment = create(config_file, tmp_path)
    study = run(experiment, tmp_path / "untouched")
    fake.kill_every, kills, found = 4, 0, None
    fake.trained.clear()
    while found is None:
        try:
            found = run(experiment, tmp_path / "killed")
        except KeyboardInterrupt:
            kills += 1
    assert kills >= 4
    assert found == study
    for name in ("methods.md", "methods.csv", "methods.json", "methods.tex", "tuning.json"):
        here, there = (tmp_path / folder / name for folder in ("killed", "untouched"))
        assert here.read_text() == there.read_text()


def test_a_copy_without_checkpoints_is_finished(fake, config_file, tmp_path):
    experiment = create(config_file, tmp_path)
    study = run(experiment, tmp_path / "study")
    copy = tmp_path / "copy"
    shutil.copytree(
        tmp_path / "study", copy, ignore=shutil.ignore_patterns("checkpoints", "starts")
    )
    held = {path.name for path in copy.rglob("*") if path.parent.name.startswith("seed_")}
    assert {"config.json", "scores.json"} <= held
    fake.trained.clear()
    fake.averaged.clear()
    tuner = Tuner(experiment, copy)
    assert "Left: 0 runs, 0 steps, about 0:00:00" in tuner.describe("e.py")
    assert outputs.run_experiment(tuner, "command") == study
    assert (fake.trained, fake.averaged) == ([], [])


SMALL = {"entries": (Entry("source_only"), Entry("alp_gi")), "tuning_seeds": ()}


def test_a_moved_study_continues(fake, config_file, tmp_path):
    experiment = create(config_file, tmp_path, **SMALL)
    study = run(experiment, tmp_path / "study")
    fake.trained.clear()
    fake.kill_every = 6
    with pytest.raises(KeyboardInterrupt):
        run(experiment, tmp_path / "begun")
    (tmp_path / "begun").rename(tmp_path / "moved")
    fake.kill_every = 0
    assert run(experiment, tmp_path / "moved") == study
    # The run that was begun has its start where it is now; a finished one stays as it is.
    assert "begun" not in (tmp_path / "moved/alp_gi/seed_1/config.json").read_text()
    assert "begun" in (tmp_path / "moved/source_only/seed_0/config.json").read_text()


def test_the_plan_says_how_long_it_takes(fake, config_file, tmp_path):
    experiment, workdir = create(config_file, tmp_path), tmp_path / "study"
    lines = Tuner(experiment, workdir).describe("e.py").splitlines()
    assert lines[0] == (
        "Plan: 5 methods. To choose from 2 candidates each: 6 runs of 3 methods. To report: 8 runs "
        "of seeds 0, 1; a run is in both where its seed is."
    )
    # 3 starts, 6 runs to choose by and 8 to report, of 6 steps each at 10 s.
    assert lines[1] == (
        "Finished: 0 runs. Left: 17 runs, 102 steps, about 0:17:00 (from 10 s a step, the estimate "
        "in e.py)."
    )
    fake.kill_every = 8
    with pytest.raises(KeyboardInterrupt):
        run(experiment, workdir)
    for path in workdir.rglob(timing.FILE_NAME):
        slow = "alp_gi-" in str(path)
        path.write_text(json.dumps({"seconds": 12.0 if slow else 6.0, "steps": 6}))
    tuner = Tuner(experiment, workdir)
    line = tuner.describe("e.py").splitlines()[1]
    # Left are two starts, two runs of each addition, at 1 s a step, and of alp_gi, at 2 s; and two
    # of source_only, at the mean of the seven: 6 * (2 + 4 + 2 * 2 + 2 * 9 / 7) s.
    assert line == (
        "Finished: 7 runs. Left: 10 runs, 60 steps, about 0:01:15 (from 7 finished runs)."
    )


def test_the_tables_lose_no_run(fake, config_file, tmp_path):
    experiment = create(config_file, tmp_path, **SMALL)
    run(experiment, tmp_path / "study")
    fake.trained.clear()
    for changed in ({"entries": experiment.entries[:1]}, {"seeds": (0,)}):
        smaller = dataclasses.replace(experiment, **changed)
        with pytest.raises(UserError, match=r"so its tables would lose them: .*seed_"):
            run(smaller, tmp_path / "study")
    more = dataclasses.replace(experiment, seeds=(0, 1, 2))
    assert len(run(more, tmp_path / "study").runs) == 6
    assert {path.name for path in fake.trained} == {"seed_2"}


def write(tmp_path, **changed):
    fields = {"config": "configs/toy_cities.py", "seeds": (0,), "tuning_seeds": (1,), **changed}
    path = tmp_path / "wrong.py"
    path.write_text(
        "from alp_jax.study.experiment import Entry, Experiment\n\n"
        f"EXPERIMENT = {Experiment(**fields)!r}\n"
    )
    return str(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"entries": ()}, "has no entries"),
        ({"entries": (Entry("agp_gi"), Entry("agp_gi"))}, "has two entries agp_gi"),
        ({"entries": (Entry("agp_gi", base="agp"),)}, "has the base 'agp': expected the name"),
        ({"entries": (Entry("agp_gi"),), "seeds": ()}, "expected different seeds, from 0"),
        ({"entries": (Entry("agp_gi"),), "seeds": (1, 1)}, "expected different seeds, from 0"),
        (
            {"entries": (Entry("agp_gi", over(WEIGHT, 1, 2)),), "tuning_seeds": ()},
            "tuning_seeds of EXPERIMENT",
        ),
        (
            {"entries": (Entry("agp_gi", over(WEIGHT, 1)), Entry("alp_gi", over(WEIGHT, 1, 2)))},
            "agp_gi chooses from 1 candidates, and another method from 2",
        ),
        ({"entries": (Entry("agp_gi", ({WEIGHT: 1}, {"seed": 2})),)}, "the same in every"),
        ({"entries": (Entry("agp_gi", over(WEIGHT, 1, 1)),)}, "has equal candidates"),
        ({"entries": (Entry("agp_gi"),), "seconds_per_step": 0.0}, "expected seconds, above 0"),
        ({"entries": (Entry("source_only", over(WEIGHT, 1, 2)),)}, f"source_only sets {WEIGHT}, a"),
        ({"entries": (Entry("agp_gi", fields={"see": 1}),)}, "agp_gi sets see, a field that"),
        ({"entries": (Entry("agp_gi"),), "fields": {"see": 1}}, "that none of agp_gi has (did you"),
        ({"entries": (Entry("agp"),)}, "Unknown variant 'agp' (did you mean agp_gi?)"),
        (
            {"entries": (Entry("agp_gi", over(WEIGHT, 1, 2)),),
             "config": "configs/gta5_to_cityscapes.py"},
            "would be chosen on the split validation, which is also the one that is reported",
        ),
    ],
)  # fmt: skip
def test_wrong_experiments_end_in_one_sentence(changed, message, tmp_path):
    with pytest.raises(UserError) as caught:
        Tuner(experiments.load(write(tmp_path, **changed)), tmp_path / "study")
    assert message in str(caught.value)


def test_members_of_an_ensemble_are_entries(tmp_path):
    mean = tmp_path / "mean.py"
    mean.write_text('MEMBERS = {"source_only": 1, "alp_gi": 1}')
    entries = (Entry("source_only"), Entry(str(mean)))
    with pytest.raises(UserError, match="mean is an ensemble of source_only, alp_gi: expected ent"):
        Tuner(experiments.load(write(tmp_path, entries=entries)), tmp_path / "study")


def test_our_experiment_holds_together(tmp_path):
    loaded = experiments.load("methods")
    assert {entry.name for entry in loaded.entries} >= {"source_only", "minent", "minent+alp"}
    assert len(loaded.entries) == len(methods.EXPERIMENT.entries)
    assert not set(loaded.tuning_seeds) & set(loaded.seeds)
    assert "Finished: 0 runs." in Tuner(loaded, tmp_path).describe("methods")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experiment=methods", "--seeds=3"], "--seeds is given with --experiment, whose file"),
        (["--experiment=method"], "--experiment is 'method' (did you mean methods?): expected one"),
        (
            ["--experiment=configs/toy_cities.py"],
            "expected .* to have EXPERIMENT = Experiment(...)",
        ),
        (["--experiment=methods", "--mode=report"], "--experiment is given with --mode=report"),
    ],
)
def test_wrong_commands_end_in_one_sentence(arguments, message, tmp_path):
    error = read_error(call("alp_jax.study", f"--workdir={tmp_path / 'study'}", *arguments))
    for part in message.split(" .* "):
        assert part in error


def test_the_command_runs_an_experiment(config_file, tmp_path):
    entries = with_alignment(Entry("source_only"), 0.01, 0.1)[::2]
    fields = {"num_steps": 3}
    experiment = create(
        config_file, tmp_path, entries=entries, seeds=(0,), tuning_seeds=(0,), fields=fields
    )
    assert experiment.fields == fields
    arguments = (f"--experiment={tmp_path / 'experiment.py'}", f"--workdir={tmp_path / 'study'}")
    result = call("alp_jax.study", *arguments)
    assert result.returncode == 0, result.stderr
    assert "Left: 5 runs, 18 steps, about 0:03:00" in result.stdout
    rows = list(csv.DictReader((tmp_path / "study" / "methods.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["source_only", "source_only+alp"]
    assert float(rows[1]["mean_iou"]) > 0
    text = (tmp_path / "study" / "methods.md").read_text()
    assert "chosen from 2 by mIoU on validation (target labels)" in text
    again = call("alp_jax.study", *arguments)
    assert "Left: 0 runs" in again.stdout
