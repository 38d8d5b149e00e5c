"""Methods that are ensembles of others: what they declare, plan, train and score."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from alp_jax.data import pipeline
from alp_jax.data.labels import IGNORE_LABEL
from alp_jax.errors import UserError
from alp_jax.evaluation.segmenter import load_segmenter
from alp_jax.study import criteria, outputs, scores, scoring
from alp_jax.study.plan import create_plan
from alp_jax.workdir import config as run_config
from configs import default
from tests.commands import call, read_error
from tests.studies import FakeTraining, run_tiny, write_config
from tests.test_study import TOY, plan_toy


@pytest.fixture
def fake(monkeypatch) -> FakeTraining:
    return FakeTraining.replace_training(monkeypatch)


@pytest.fixture(scope="module")
def config_file(data_dir, tmp_path_factory) -> pathlib.Path:
    return write_config(data_dir, tmp_path_factory.mktemp("config"))


@pytest.fixture
def ensemble(tmp_path) -> pathlib.Path:
    return write(tmp_path, "mean.py", 'MEMBERS = {"source_only": 1, "agp_gi": 3}')


def write(folder: pathlib.Path, name: str, text: str) -> pathlib.Path:
    path = folder / name
    path.write_text(text)
    return path


def test_ensembles_are_no_methods_to_train():
    assert "a_plus_e" in default.list_ensembles()
    assert not set(default.list_ensembles()) & set(default.list_methods())
    assert default.read_members("a_plus_e") == {"advent": 0.5, "minent_er": 0.5}  # AdvEnt's.
    assert default.read_members("alp_gi") is None
    assert default.is_method("a_plus_e")


def test_the_members_of_an_ensemble_are_trained_with_it(ensemble, tmp_path):
    plan = create_plan(
        tmp_path, TOY, [], methods=("source_only", str(ensemble)), num_seeds=2, sweep=None
    )
    assert [run.folder for run in plan.runs] == [
        *("source_only/seed_0", "mean/seed_0", "source_only/seed_1", "mean/seed_1"),
    ]
    assert [run.folder for run in plan.members] == ["agp_gi/seed_0", "agp_gi/seed_1"]
    assert [run.folder for run in plan.in_order[len(plan.starts) :]] == [
        *("agp_gi/seed_0", "source_only/seed_0", "mean/seed_0"),
        *("agp_gi/seed_1", "source_only/seed_1", "mean/seed_1"),
    ]
    first = plan.runs[1]
    assert [(run.folder, weight) for run, weight in first.members] == [
        ("source_only/seed_0", 0.25),
        ("agp_gi/seed_0", 0.75),
    ]
    assert first.members[0][0] is plan.runs[0]  # Shared with the method's own row.
    assert first.train_steps == 0


def test_an_ensemble_is_scored_once_its_members_are(fake, config_file, ensemble, tmp_path):
    workdir = tmp_path / "study"
    methods = (str(ensemble), "agp_gi")
    study = run_tiny(config_file, workdir, methods=methods)
    assert len(fake.trained) == len(set(fake.trained)) == 2 + 4
    assert list(study.by_setting()) == ["mean", "agp_gi"]
    runs = study.by_setting()["mean"]
    assert [run.seed for run in runs] == [0, 1]
    assert runs[1].members == {"source_only/seed_1": 0.25, "agp_gi/seed_1": 0.75}
    assert fake.averaged[0] == {
        str(workdir / "source_only/seed_0"): 0.25,
        str(workdir / "agp_gi/seed_0"): 0.75,
    }
    assert [summary["split"] for summary in runs[0].evaluations] == ["validation"]
    assert (runs[0].last["split"], runs[0].last["step"]) == ("test", 6)
    assert scores.load(workdir) == study
    # Again nothing is done; with other weights, only the ensemble is scored again.
    fake.trained.clear()
    fake.averaged.clear()
    assert run_tiny(config_file, workdir, methods=methods) == study
    assert (fake.trained, fake.averaged) == ([], [])
    scored = json.loads((workdir / "mean/seed_0" / scoring.SCORES_FILE).read_text())
    scored["members"]["agp_gi/seed_0"] = 0.5
    (workdir / "mean/seed_0" / scoring.SCORES_FILE).write_text(json.dumps(scored))
    assert run_tiny(config_file, workdir, methods=methods) == study
    assert fake.trained == []
    assert {weight for members in fake.averaged for weight in members.values()} == {0.25, 0.75}


def test_a_killed_study_of_an_ensemble_ends_in_the_same(fake, config_file, ensemble, tmp_path):
    methods = ("source_only", str(ensemble))
    study = run_tiny(config_file, tmp_path / "untouched", methods=methods)
    fake.kill_every, kills, found = 2, 0, None
    fake.trained.clear()
    while found is None:
        try:
            found = run_tiny(config_file, tmp_path / "killed", methods=methods)
        except KeyboardInterrupt:
            kills += 1
    assert kills >= 5
    assert found.runs == study.runs


def test_a_finished_study_needs_no_checkpoint(fake, config_file, ensemble, tmp_path):
    workdir, methods = tmp_path / "study", ("source_only", str(ensemble))
    study = run_tiny(config_file, workdir, methods=methods)
    for folder in [*workdir.rglob("checkpoints"), workdir / "starts"]:
        shutil.rmtree(folder)
    fake.trained.clear()
    assert run_tiny(config_file, workdir, methods=methods) == study
    assert fake.trained == []
    # What another run needs is trained again: its start, and the members of the ensemble.
    (workdir / "mean/seed_1" / scoring.SCORES_FILE).unlink()
    assert run_tiny(config_file, workdir, methods=methods) == study
    assert [str(path.relative_to(workdir)) for path in fake.trained] == [
        *("starts/warmup/seed_1", "agp_gi/seed_1", "source_only/seed_1"),
    ]


def test_the_page_shows_the_members(fake, config_file, ensemble, tmp_path, monkeypatch):
    run_tiny(config_file, tmp_path, methods=(str(ensemble), "alp_gi"))
    pages: list[dict[str, pathlib.Path]] = []
    monkeypatch.setattr(
        outputs.writing, "write_report", lambda shown, *_, **__: pages.append(shown)
    )
    outputs.write_report(tmp_path)
    assert pages == [
        {name: tmp_path / name / "seed_0" for name in ("source_only", "agp_gi", "alp_gi")}
    ]


def test_an_ensemble_has_no_part_in_the_choice_of_checkpoints(
    fake, config_file, ensemble, tmp_path
):
    study = run_tiny(config_file, tmp_path, methods=("source_only", str(ensemble)))
    assert {ranking.num_runs for ranking in criteria.rank_criteria(study)} <= {0, 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('MEMBERS = {"advent": 1}', "expected at least two methods, each with its weight"),
        ('MEMBERS = {"advent": 1, "agp_gi": 0}', "a number above 0"),
        ('MEMBERS = {"advent": 1, "agp_gi": True}', "a number above 0"),
        ('MEMBERS = {"advent": 1, "agp_gi": float("inf")}', "a number above 0"),
        ('MEMBERS = ["advent", "agp_gi"]', "expected at least two methods"),
        ('MEMBERS = {"advent": 1, "agp": 1}', "Unknown variant 'agp' (did you mean agp_gi?)"),
        ('MEMBERS = {"advent": 1, "a_plus_e": 1}', "a_plus_e, which is an ensemble itself"),
        ('MEMBERS = {"advent": 1, "agp_gi": 1}\ndef apply(config): pass', "and a function apply"),
    ],
)
def test_wrong_members_end_in_one_sentence(text, message, tmp_path):
    with pytest.raises(UserError) as caught:
        plan_toy(str(write(tmp_path, "mean.py", text)))
    assert message in str(caught.value)


def test_members_that_are_evaluated_otherwise_are_refused(tmp_path):
    text = (pathlib.Path(default.__file__).parent / "methods" / "agp_gi.py").read_text()
    write(tmp_path, "other.py", f"{text}    config.data.target_size = (32, 64)\n")
    members = f'MEMBERS = {{"source_only": 1, "{tmp_path}/other.py": 1}}'
    path = write(tmp_path, "mean.py", members)
    with pytest.raises(
        UserError, match=r"source_only and other of mean have config.data.target_si"
    ):
        create_plan(
            tmp_path, "configs/gta5_to_cityscapes.py", [], methods=[str(path)], num_seeds=1,
            sweep=None,
        )  # fmt: skip


def test_a_sweep_with_an_ensemble_is_refused(ensemble):
    with pytest.raises(
        UserError, match=r"--sweep is 'momentum:0.5,0.9', and .* the ensemble .*mean"
    ):
        plan_toy("alp_gi", str(ensemble), sweep="momentum:0.5,0.9")


def test_an_ensemble_is_not_trained_as_a_run(tmp_path):
    arguments = (f"--config={TOY}:a_plus_e", f"--workdir={tmp_path / 'run'}")
    assert read_error(call("alp_jax.main", *arguments)) == (
        "a_plus_e is an ensemble of advent, minent_er, which is evaluated and not trained: give "
        "--methods=a_plus_e to python -m alp_jax.study, which trains the members and averages "
        "them; or train each by itself, and give --mode=evaluate --workdir=RUN_OF_ADVENT "
        "--ensemble=RUN_OF_MINENT_ER --ensemble_weights=0.5,0.5."
    )
    assert not (tmp_path / "run").exists()


def test_the_score_of_an_ensemble_is_that_of_the_mean_probabilities(config_file, tmp_path):
    """Trains both members, and scores the averaged probabilities by a loop."""
    ensemble = write(tmp_path, "mean.py", 'MEMBERS = {"source_only": 1, "ap_ci": 3}')
    workdir = tmp_path / "study"
    arguments = (f"--config={config_file}", f"--workdir={workdir}", "--seeds=1")
    result = call("alp_jax.study", *arguments, f"--methods={ensemble}", "--config.num_steps=3")
    assert result.returncode == 0, result.stderr
    (run,) = scores.load(workdir).runs
    assert run.members == {"source_only/seed_0": 0.25, "ap_ci/seed_0": 0.75}
    assert (run.last["step"], run.last["num_images"]) == (3, 7)
    assert "| mean | 1 |" in (workdir / "study.md").read_text()
    members = [load_segmenter(workdir / folder) for folder in run.members]
    mean_iou, mean_entropy = score_by_a_loop(
        members, (0.25, 0.75), run_config.load(workdir / "source_only/seed_0")
    )
    assert run.last["mean_iou"] == pytest.approx(mean_iou, abs=1e-9)
    assert run.last["mean_entropy"] == pytest.approx(mean_entropy, abs=1e-6)


def score_by_a_loop(members, weights, settings) -> tuple[float, float]:
    """Computes (mean IoU, mean entropy / log 16) of averaged probabilities on the test split."""
    label_set = members[0].ensemble.label_set
    batches, _ = pipeline.create_eval_batches(
        settings.data,
        dataset=settings.evaluation.dataset,
        split="test",
        batch_size=1,
        label_set=label_set,
    )
    confusion, entropies = np.zeros((16, 16)), []
    for batch in pipeline.iterate(batches, 0, num_workers=0, prefetch_batches=1):
        mean = np.zeros(())
        for member, weight in zip(members, weights, strict=True):
            ensemble = member.ensemble
            size = batch["labels"].shape[1:]
            logits = ensemble.predictor.predict(ensemble.variables, batch["images"], size)
            mean = mean + weight * np.asarray(jax.nn.softmax(logits, axis=-1), np.float64)
        entropies.append(-np.mean(np.sum(mean * np.log(mean), axis=-1)) / np.log(16))
        for row, column in zip(batch["labels"].ravel(), mean.argmax(-1).ravel(), strict=True):
            if row != IGNORE_LABEL:
                confusion[row, column] += 1
    hits = np.diag(confusion)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    return float(np.mean(hits[union > 0] / union[union > 0])), float(np.mean(entropies))
