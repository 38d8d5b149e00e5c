"""Which runs a study has, that it repeats none, and that a killed one ends in the same numbers."""

import pathlib

import pytest

from alp_jax.errors import UserError
from alp_jax.study import outputs, scores, scoring
from alp_jax.study.plan import Plan, create_plan
from alp_jax.workdir import checkpoint
from tests.commands import call, read_error
from tests.studies import FakeTraining, run_tiny, write_config
from tests.test_checkpoint import create_state

TOY = "configs/toy_cities.py"


def plan_toy(*methods: str, overrides=(), num_seeds=1, sweep=None) -> Plan:
    return create_plan(
        pathlib.Path("study"), TOY, overrides, methods=methods, num_seeds=num_seeds, sweep=sweep
    )


def test_every_seed_has_starts_of_its_own():
    plan = plan_toy("source_only", "ap_ci", "alp_gi", num_seeds=2)
    assert [run.folder for run in plan.starts] == [
        "warmup/seed_0",
        "warmup_crops/seed_0",
        "warmup/seed_1",
        "warmup_crops/seed_1",
    ]
    assert [run.folder for run in plan.runs] == [
        f"{method}/seed_{seed}" for seed in (0, 1) for method in ("source_only", "ap_ci", "alp_gi")
    ]
    assert {run.root for run in plan.starts} == {pathlib.Path("study/starts")}
    for run in plan.runs:
        start = "warmup_crops" if run.method == "ap_ci" else "warmup"
        assert run.config.init_from == f"study/starts/{start}/seed_{run.seed}"
        assert run.config.seed == run.seed
    assert all(run.config.init_from == "" for run in plan.starts)


def test_a_method_that_lacks_the_swept_field_is_trained_once():
    plan = plan_toy("source_only", "agp_gi", "alp_gi", sweep="patch_size:32,48x64")
    assert plan.sweep_field == "terms.adversarial.patches.patch_size"
    assert plan.sweep_values == ([32, 32], [48, 64])
    assert [(run.method, run.value) for run in plan.runs] == [
        ("source_only", None),
        ("agp_gi", None),
        ("alp_gi", [32, 32]),
        ("alp_gi", [48, 64]),
    ]
    sizes = [run.config.terms.adversarial.patches.patch_size for run in plan.runs[2:]]
    assert sizes == [(32, 32), (48, 64)]
    assert len(plan.starts) == 1


def test_lambda_is_used_where_something_is_aligned():
    plan = plan_toy("source_only", "target_bn", "agp_gi", sweep="adversarial.weight:0.001,0.1")
    assert [(run.method, run.value) for run in plan.runs] == [
        ("source_only", None),
        ("target_bn", None),
        ("agp_gi", 0.001),
        ("agp_gi", 0.1),
    ]


def test_a_flag_reaches_the_methods_that_have_its_field():
    flag = "--config.terms.adversarial.widths=8,16"
    plan = plan_toy("source_only", "agp_gi", overrides=[flag, "--config.num_steps=300"])
    assert "adversarial" not in plan.runs[0].config.terms
    assert plan.runs[1].config.terms.adversarial.widths == (8, 16)
    assert [run.config.num_steps for run in plan.runs] == [300, 300]


def test_a_method_may_be_a_file_of_ones_own(tmp_path):
    text = (pathlib.Path(outputs.__file__).parents[2] / "configs/methods/agp_gi.py").read_text()
    (tmp_path / "mine.py").write_text(text)
    plan = plan_toy("source_only", str(tmp_path / "mine.py"), sweep="adversarial.weight:0.1,0.2")
    assert [run.method for run in plan.runs] == ["source_only", "mine", "mine"]
    assert [run.folder for run in plan.runs][1] == "mine-terms.adversarial.weight-0.1/seed_0"
    assert plan.runs[1].config.terms.adversarial.patches.kind == "whole"
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "mine.py").write_text(text)
    with pytest.raises(UserError, match=r"mine.py and .*mine.py, which would both be called mine"):
        plan_toy(str(tmp_path / "mine.py"), str(tmp_path / "more" / "mine.py"))


def test_a_start_has_the_swept_crops_data_and_network_and_its_own_schedule():
    overrides = [
        "--config.data.data_dir=elsewhere",
        "--config.num_steps=300",
        "--config.views.target.size=48,48",
    ]
    plan = plan_toy("ap_ci", "alp_gi", overrides=overrides, sweep="views.source.size:32,48")
    assert [run.folder for run in plan.starts] == [
        "warmup_crops-views.source.size-32x32/seed_0",
        "warmup_crops-views.source.size-48x48/seed_0",
        "warmup/seed_0",
    ]
    assert plan.starts[1].config.views.source.size == (48, 48)
    assert all(run.config.data.data_dir == "elsewhere" for run in plan.starts)
    assert all(run.config.num_steps == 1000 for run in plan.starts)
    assert all(run.config.num_steps == 300 for run in plan.runs)
    widths = plan_toy("alp_gi", sweep="backbone.widths:8x8x8,16x16x16")
    found = [run.config.model.backbone.widths for run in widths.starts]
    assert found == [(8, 8, 8), (16, 16, 16)]


def test_studies_of_several_targets_may_share_their_starts():
    overrides = ["--config.data.target=other/unlabelled", "--config.data.target_size=32,64"]
    here, there = plan_toy("alp_gi"), plan_toy("alp_gi", overrides=overrides)
    assert there.runs[0].config.data.target == "other/unlabelled"
    (ours,), (theirs,) = here.starts, there.starts
    assert (ours.folder, ours.config.data.target) == (theirs.folder, theirs.config.data.target)
    assert theirs.config.data.target_size == (32, 64)  # Its evaluation has images of that size.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sweep": "patchsize:3"}, "did you mean patch_size?"),
        ({"sweep": "patch_size"}, "expected FIELD:VALUE,VALUE"),
        ({"sweep": "every_steps:1,2"}, "may be checkpoint.every_steps or evaluation.every_steps"),
        ({"sweep": "seed:1,2"}, "cannot vary the seed"),
        ({"sweep": "patch_size:16"}, "expected at least 32x32"),
        ({"sweep": "weight:1"}, "may be terms.adversarial.weight or terms.cross_entropy.weight"),
        ({"sweep": "batch_norm_mode:x"}, "config.model.backbone.batch_norm_mode is 'x'"),
        (
            {"overrides": ["--config.model.backbone.batch_norm_mod=x"]},
            "none of alp_gi has (did you mean --config.model.backbone.batch_norm_mode?)",
        ),
        ({"methods": ()}, "--methods is '': expected different variants"),
        ({"methods": ("alp_gi", "")}, "--methods is 'alp_gi,': expected different variants"),
        ({"sweep": ""}, "expected FIELD:VALUE,VALUE"),
        ({"sweep": "patch_size:32,"}, "--sweep is 'patch_size:32,', where a value is empty"),
        ({"methods": ("mine.py",)}, "The method is 'mine.py': no such file"),
        ({"methods": ("alp",)}, "Unknown variant 'alp'"),
    ],
)
def test_wrong_plans_end_in_one_sentence(arguments, message):
    arguments = {"methods": ("alp_gi",), **arguments}
    with pytest.raises(UserError) as caught:
        plan_toy(*arguments.pop("methods"), **arguments)
    assert message in str(caught.value)


# Running a plan, with trainings that write what real ones do.


@pytest.fixture
def fake(monkeypatch) -> FakeTraining:
    return FakeTraining.replace_training(monkeypatch)


@pytest.fixture(scope="module")
def config_file(data_dir, tmp_path_factory) -> pathlib.Path:
    return write_config(data_dir, tmp_path_factory.mktemp("config"))


def test_every_run_is_trained_and_scored_once(fake, config_file, tmp_path):
    study = run_tiny(config_file, tmp_path)
    assert len(fake.trained) == len(set(fake.trained)) == 2 + 4
    assert {workdir.parent.name for workdir in fake.trained[:2]} == {"warmup"}  # Starts first.
    assert list(study.by_setting()) == ["source_only", "alp_gi"]
    assert [run.seed for run in study.by_setting()["alp_gi"]] == [0, 1]
    for run in study.runs:
        assert (run.last["split"], run.last["step"]) == ("test", 6)
        assert [summary["step"] for summary in run.evaluations] == [0, 3, 6]
        assert {summary["split"] for summary in run.evaluations} == {"validation"}
        best = max(run.history(10), key=lambda summary: summary["mean_iou"])
        assert run.best is not None
        assert (run.best["step"], run.best["split"]) == (best["step"], "test")
    assert scores.load(tmp_path) == study


def test_finished_runs_are_not_repeated(fake, config_file, tmp_path):
    study = run_tiny(config_file, tmp_path)
    fake.trained.clear()
    assert run_tiny(config_file, tmp_path) == study
    assert fake.trained == []


def test_a_killed_study_goes_on_where_it_was(fake, config_file, tmp_path):
    study = run_tiny(config_file, tmp_path / "untouched")
    fake.kill_every, kills, found = 2, 0, None
    fake.trained.clear()
    while found is None:
        try:
            found = run_tiny(config_file, tmp_path / "killed")
        except KeyboardInterrupt:
            kills += 1
    assert kills >= 5
    assert found.runs == study.runs
    assert len(fake.trained) == kills + 2 + 4  # Only what was killed is given again.


def test_a_workdir_of_another_study_is_refused(fake, config_file, tmp_path):
    run_tiny(config_file, tmp_path)
    with pytest.raises(UserError, match=r"config\.optimizer\.momentum is 0\.9 there and 0\.5"):
        run_tiny(config_file, tmp_path, "--config.optimizer.momentum=0.5")


def test_a_study_of_fewer_steps_than_its_runs_have_is_refused(fake, config_file, tmp_path):
    run_tiny(config_file, tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    fake.trained.clear()
    with pytest.raises(UserError) as caught:
        run_tiny(config_file, tmp_path, "--config.num_steps=4")
    assert str(caught.value) == (
        f"The run {tmp_path}/source_only/seed_0 is at step 6 already, and the study asks for "
        "config.num_steps 4: give --config.num_steps=6 or more, so that all runs of the study are "
        "equally long, or another --workdir."
    )
    # Also if only one run was continued before a longer study was interrupted.
    with checkpoint.Checkpoints(tmp_path / "alp_gi" / "seed_1", keep_last=9) as checkpoints:
        checkpoints.save(20, create_state(20))
    with pytest.raises(UserError, match=r"alp_gi/seed_1 is at step 20 .* --config.num_steps=20"):
        run_tiny(config_file, tmp_path, "--config.num_steps=7")
    assert fake.trained == []
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_a_start_that_is_further_is_refused(fake, config_file, tmp_path):
    run_tiny(config_file, tmp_path)
    with checkpoint.Checkpoints(tmp_path / "starts/warmup/seed_0", keep_last=9) as checkpoints:
        checkpoints.save(20, create_state(20))
    with pytest.raises(UserError, match=r"The start .*warmup/seed_0 is at step 20 .*--starts"):
        run_tiny(config_file, tmp_path)


def test_a_study_may_be_extended_but_loses_no_run(fake, config_file, tmp_path):
    run_tiny(config_file, tmp_path, methods=("source_only",))
    study = run_tiny(config_file, tmp_path)
    assert list(study.by_setting()) == ["source_only", "alp_gi"]
    fake.trained.clear()
    for options in ({"methods": ("alp_gi", "agp_gi")}, {"num_seeds": 1}):
        with pytest.raises(UserError, match=r"its tables would lose them: .*/seed_.*--methods"):
            run_tiny(config_file, tmp_path, **options)
    assert fake.trained == []
    assert scores.load(tmp_path) == study


def test_an_interrupted_study_says_how_it_is_continued(fake, config_file, tmp_path):
    fake.kill_every = 1
    with pytest.raises(KeyboardInterrupt):
        run_tiny(config_file, tmp_path)
    with pytest.raises(UserError, match=r"was interrupted before .* which continues it"):
        outputs.write_report(tmp_path)


def test_the_log_says_that_starts_have_steps_of_their_own(fake, config_file, tmp_path, caplog):
    caplog.set_level("INFO")
    run_tiny(config_file, tmp_path, "--config.num_steps=6")
    (line,) = [line for line in caplog.messages if "methods start from" in line]
    assert "to step 6: --config.num_steps changes the methods' steps alone" in line


def test_damaged_scores_are_named(fake, config_file, tmp_path):
    study = run_tiny(config_file, tmp_path)
    path = tmp_path / "source_only" / "seed_0" / scoring.SCORES_FILE
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match="remove that file, and the run is scored again"):
        run_tiny(config_file, tmp_path)
    path.unlink()
    assert run_tiny(config_file, tmp_path).runs == study.runs


# The command.


def test_the_command_writes_tables_a_sweep_and_a_report(config_file, tmp_path):
    arguments = [
        f"--config={config_file}",
        f"--workdir={tmp_path / 'study'}",
        f"--starts={tmp_path / 'starts'}",
        "--methods=alp_gi",
        "--seeds=1",
        "--sweep=adversarial.weight:0.01,0.1",
        "--config.num_steps=3",
    ]
    result = call("alp_jax.study", *arguments)
    assert result.returncode == 0, result.stderr
    assert "run" in result.stderr.lower()
    assert "alp_gi, adversarial.weight 0.1" in result.stdout
    study = scores.load(tmp_path / "study")
    assert [run.value for run in study.runs] == [0.01, 0.1]
    assert study.about.overrides == ("--config.num_steps=3",)
    for run in study.runs:
        assert (run.last["split"], run.last["step"], run.last["num_images"]) == ("test", 3, 7)
        assert [summary["step"] for summary in run.evaluations] == [0, 3]
    # All of a seed start from the same weights.
    assert len({run.evaluations[0]["mean_entropy"] for run in study.runs}) == 1
    for name in ("study.csv", "study.md", "study.tex", "sweep.png", "sweep.csv"):
        assert (tmp_path / "study" / name).stat().st_size > 0
    assert (tmp_path / "starts" / "warmup" / "seed_0" / "scores.json").exists()

    result = call("alp_jax.study", "--mode=report", f"--workdir={tmp_path / 'study'}")
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "study" / "report" / "report.html").read_text()
    assert "Sweep of terms.adversarial.weight" in page
    assert "Criteria without labels" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give --workdir"),
        (
            ["--workdir=runs/x", f"--config={TOY}", "--methods=alp_gi,alp_gi"],
            "--methods is 'alp_gi,alp_gi': expected different variants",
        ),
        (
            ["--workdir=runs/x", "--mode=report", "--seeds=3"],
            "--seeds is given with --mode=report: expected --mode=run.",
        ),
        (["--workdir=", f"--config={TOY}"], "Give --workdir"),
        (["--workdir=runs/x"], "A study needs --config"),
        (["--workdir=runs/x", f"--config={TOY}:alp_gi"], "takes the variants from --methods"),
        (["--workdir=runs/x", f"--config={TOY}", "--seeds=0"], "seeds"),
        (["--workdir=/nowhere/x", "--mode=report"], "No study in /nowhere/x"),
    ],
)
def test_wrong_commands_end_in_one_sentence(arguments, message):
    assert message in read_error(call("alp_jax.study", *arguments))
