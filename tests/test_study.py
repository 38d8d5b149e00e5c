"""Which runs a study has, that it repeats none, and that a killed one ends in the same numbers."""

import pathlib

import pytest

from alp_jax.errors import UserError
from alp_jax.run import train
from alp_jax.study import outputs, runner, scores
from alp_jax.study.plan import Plan, create_plan
from alp_jax.workdir import checkpoint
from tests.commands import run_module

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


def test_a_method_that_does_not_use_the_swept_field_is_trained_once():
    plan = plan_toy("source_only", "agp_gi", "alp_gi", sweep="patch_size:32,48x64")
    assert plan.sweep_field == "objective.patch_size"
    assert plan.sweep_values == ([32, 32], [48, 64])
    assert [(run.method, run.value) for run in plan.runs] == [
        ("source_only", None),
        ("agp_gi", None),
        ("alp_gi", [32, 32]),
        ("alp_gi", [48, 64]),
    ]
    assert [run.config.objective.patch_size for run in plan.runs[2:]] == [(32, 32), (48, 64)]
    assert len(plan.starts) == 1


def test_lambda_is_used_where_something_is_aligned():
    plan = plan_toy("source_only", "target_bn", "agp_gi", sweep="adversarial_weight:0.001,0.1")
    assert [(run.method, run.value) for run in plan.runs] == [
        ("source_only", None),
        ("target_bn", None),
        ("agp_gi", 0.001),
        ("agp_gi", 0.1),
    ]


def test_a_start_has_the_swept_crops_data_and_network_and_its_own_schedule():
    overrides = ["--config.data.data_dir=elsewhere", "--config.num_steps=300"]
    plan = plan_toy("ap_ci", "alp_gi", overrides=overrides, sweep="patch_size:32,48")
    assert [run.folder for run in plan.starts] == [
        "warmup_crops-objective.patch_size-32x32/seed_0",
        "warmup_crops-objective.patch_size-48x48/seed_0",
        "warmup/seed_0",
    ]
    assert plan.starts[1].config.objective.patch_size == (48, 48)
    assert all(run.config.data.data_dir == "elsewhere" for run in plan.starts)
    assert all(run.config.num_steps == 1000 for run in plan.starts)
    assert all(run.config.num_steps == 300 for run in plan.runs)
    widths = plan_toy("alp_gi", sweep="model.backbone.widths:8x8x8,16x16x16")
    assert [run.config.model.backbone.widths for run in widths.starts] == [(8, 8, 8), (16, 16, 16)]


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
        ({"sweep": "batch_norm_mode:x"}, "config.model.backbone.batch_norm_mode is 'x'"),
        ({"overrides": ["--config.model.batch_norm=x"]}, "Unknown field config.model.batch_norm"),
        ({"methods": ("alp",)}, "Unknown variant 'alp'"),
    ],
)
def test_wrong_plans_end_in_one_sentence(arguments, message):
    arguments = {"methods": ("alp_gi",), **arguments}
    with pytest.raises(UserError) as caught:
        plan_toy(*arguments.pop("methods"), **arguments)
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def config_file(data_dir, tmp_path_factory) -> pathlib.Path:
    """A configuration of the tiny network; every method starts from `warmup`."""
    path = tmp_path_factory.mktemp("config") / "tiny_study.py"
    path.write_text(
        "import pathlib\nfrom tests import tiny\n\n"
        "def get_config(variant='alp_gi'):\n"
        f"    config = tiny.get_config(pathlib.Path({str(data_dir)!r}), variant)\n"
        "    with config.unlocked():\n"
        "        config.start_variant = '' if variant == 'warmup' else 'warmup'\n"
        "    return config\n"
    )
    return path


def plan_tiny(
    config_file: pathlib.Path, workdir: pathlib.Path, num_seeds: int = 2
) -> tuple[Plan, scores.About]:
    methods = ("source_only", "alp_gi")
    plan = create_plan(
        workdir, str(config_file), [], methods=methods, num_seeds=num_seeds, sweep=None
    )
    return plan, outputs.describe(plan, str(config_file), [], "command")


@pytest.fixture(scope="module")
def study_and_workdir(config_file, tmp_path_factory) -> tuple[scores.Study, pathlib.Path]:
    workdir = tmp_path_factory.mktemp("study")
    plan, about = plan_tiny(config_file, workdir)
    return runner.run(plan, about, save=lambda s: outputs.save(s, workdir)), workdir


def test_every_run_is_scored_on_the_reported_split(study_and_workdir):
    study, workdir = study_and_workdir
    assert list(study.by_setting()) == ["source_only", "alp_gi"]
    assert [run.seed for run in study.by_setting()["alp_gi"]] == [0, 1]
    for run in study.runs:
        assert (run.last["split"], run.last["step"], run.last["num_images"]) == ("test", 6, 7)
        assert [summary["step"] for summary in run.evaluations] == [0, 3, 6]
        assert {summary["split"] for summary in run.evaluations} == {"validation"}
        best = max(run.history(10), key=lambda summary: summary["mean_iou"])
        assert run.best is not None
        assert (run.best["step"], run.best["split"]) == (best["step"], "test")
    assert scores.load(workdir) == study


def test_runs_of_a_seed_start_from_the_same_weights(study_and_workdir):
    study, _ = study_and_workdir
    starts = {(run.seed, run.evaluations[0]["mean_entropy"]) for run in study.runs}
    assert len(starts) == 2


def test_finished_runs_are_not_repeated(study_and_workdir, config_file, monkeypatch):
    study, workdir = study_and_workdir

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("A finished run was trained again.")

    monkeypatch.setattr(train, "train_and_evaluate", refuse)
    plan, about = plan_tiny(config_file, workdir)
    assert runner.run(plan, about, save=lambda _: None) == study


def test_a_killed_study_ends_in_the_same_numbers(
    study_and_workdir, config_file, tmp_path, monkeypatch
):
    study, _ = study_and_workdir
    plan, about = plan_tiny(config_file, tmp_path, num_seeds=1)
    save, calls = checkpoint.Checkpoints.save, []

    def kill_sometimes(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) % 4 == 0:
            raise KeyboardInterrupt
        save(*arguments, **keywords)

    monkeypatch.setattr(checkpoint.Checkpoints, "save", kill_sometimes)
    kills = 0
    while True:
        try:
            found = runner.run(plan, about, save=lambda _: None)
            break
        except KeyboardInterrupt:
            kills += 1
    assert kills >= 2
    assert list(found.runs) == [run for run in study.runs if run.seed == 0]


def test_a_workdir_of_another_study_is_refused(study_and_workdir, config_file):
    _, workdir = study_and_workdir
    plan = create_plan(
        workdir,
        str(config_file),
        ["--config.optimizer.momentum=0.5"],
        methods=("source_only",),
        num_seeds=1,
        sweep=None,
    )
    with pytest.raises(UserError, match=r"config\.optimizer\.momentum is 0\.9 there and 0\.5"):
        runner.run(plan, outputs.describe(plan, "c", [], "command"), save=lambda _: None)


def test_damaged_scores_are_named(study_and_workdir, config_file):
    study, workdir = study_and_workdir
    plan, about = plan_tiny(config_file, workdir)
    path = plan.runs[0].workdir / runner.SCORES_FILE
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match="remove that file, and the run is scored again"):
        runner.run(plan, about, save=lambda _: None)
    path.unlink()
    assert runner.run(plan, about, save=lambda _: None).runs == study.runs


def test_the_command_writes_tables_a_sweep_and_a_report(config_file, tmp_path):
    arguments = [
        f"--config={config_file}",
        f"--workdir={tmp_path / 'study'}",
        f"--starts={tmp_path / 'starts'}",
        "--methods=source_only,alp_gi",
        "--seeds=1",
        "--sweep=adversarial_weight:0.01,0.1",
        "--config.num_steps=3",
    ]
    result = run_module("alp_jax.study", *arguments)
    assert result.returncode == 0, result.stderr
    assert "run" in result.stderr.lower()
    assert "alp_gi, adversarial_weight 0.1" in result.stdout
    study = scores.load(tmp_path / "study")
    assert [run.value for run in study.runs] == [None, 0.01, 0.1]
    assert study.about.overrides == ("--config.num_steps=3",)
    assert {run.last["step"] for run in study.runs} == {3}
    for name in ("study.csv", "study.md", "study.tex", "sweep.png", "sweep.csv"):
        assert (tmp_path / "study" / name).stat().st_size > 0
    assert (tmp_path / "starts" / "warmup" / "seed_0" / "scores.json").exists()

    result = run_module("alp_jax.study", "--mode=report", f"--workdir={tmp_path / 'study'}")
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "study" / "report" / "report.html").read_text()
    assert "Sweep of objective.adversarial_weight" in page
    assert "Criteria without labels" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give --workdir"),
        (["--workdir=runs/x"], "A study needs --config"),
        (["--workdir=runs/x", f"--config={TOY}:alp_gi"], "takes the variants from --methods"),
        (["--workdir=runs/x", f"--config={TOY}", "--seeds=0"], "seeds"),
        (["--workdir=/nowhere/x", "--mode=report"], "No study in /nowhere/x"),
    ],
)
def test_wrong_commands_end_in_one_sentence(arguments, message):
    result = run_module("alp_jax.study", *arguments)
    assert result.returncode == 2
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert message in error
    assert "Traceback" not in result.stderr
