"""Numbers that no sound network has are found where they enter and where they leave, and named."""

import json
import math
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator, logits
from alp_jax.evaluation.segmenter import load_segmenter
from alp_jax.export.program import export_segmenter
from alp_jax.run import assembly, train
from alp_jax.study import scores as study_scores
from alp_jax.workdir import checkpoint, files, finite, scores, writers
from alp_jax.workdir.settings import build_settings
from tests import tiny

TREE = {
    "params": {"conv": {"kernel": (3, 2, 4), "bias": (4,)}},
    "model_state": {"batch_stats": {"bn": {"mean": (4,), "var": (4,)}}},
}
BAD = {"NaN": math.nan, "infinite": -math.inf, "negative (of a variance)": -1e-30}


def create(dtype=np.float32):
    """A sound tree, with numbers of all magnitudes and variances that are 0."""
    rng = np.random.default_rng(0)
    shapes = jax.tree.map(lambda s: np.zeros(s), TREE, is_leaf=lambda x: isinstance(x, tuple))
    tree = jax.tree.map(lambda x: rng.normal(0, 1e3, x.shape).astype(dtype), shapes)
    tree["model_state"]["batch_stats"]["bn"]["var"][:] = [0.0, -0.0, 1e-38, 3e38]
    tree["step"] = np.int32(-1)
    return tree


def test_sound_trees_have_no_faults():
    assert finite.find_faults(create()) == []
    assert finite.find_faults(create(jnp.bfloat16)) == []
    assert finite.find_faults({"key": jax.random.key(0), "empty": np.zeros((0, 3))}) == []


@given(st.data())
def test_a_bad_number_anywhere_is_found_and_named(data):
    tree = create()
    leaves = [(p, x) for p, x in jax.tree_util.tree_leaves_with_path(tree) if x.ndim]
    path, leaf = data.draw(st.sampled_from(leaves))
    name = finite.name_path(path)
    kinds = [kind for kind in BAD if name.endswith("var") or not kind.startswith("negative")]
    kind = data.draw(st.sampled_from(kinds))
    index = tuple(data.draw(st.integers(0, side - 1)) for side in leaf.shape)
    leaf[index] = BAD[kind]
    expected = f"{name}: 1 {kind} of {leaf.size} values, the first at {list(index)}"
    assert finite.find_faults(tree) == [expected]


def test_all_kinds_in_one_array_are_counted():
    array = np.array([1, math.nan, -2, math.inf, -math.inf], np.float32)
    assert finite.find_faults({"var": {"var": array}}) == [
        "var/var: 1 NaN and 2 infinite and 1 negative (of a variance) of 5 values, the first at [1]"
    ]
    assert finite.find_faults({"x": np.float32(math.nan)}) == ["x: 1 NaN of 1 value"]
    assert finite.find_largest({"a": np.array([1.0, -7.0]), "b": np.array([2.0])}) == ("a", 7.0)


# Checkpoints.


def change_leaf(tree, part, value):
    """Sets the first number of the first array below a part."""

    def change(path, leaf):
        if done or not finite.name_path(path).startswith(part):
            return leaf
        done.append(finite.name_path(path))
        return leaf.at[(0,) * leaf.ndim].set(value)

    done: list[str] = []
    return jax.tree_util.tree_map_with_path(change, tree), done


def spoil(workdir: pathlib.Path, step: int, part: str, value: float) -> str:
    """Saves the checkpoint of a step with one bad number; returns the name of the array."""
    settings = build_settings(tiny.get_config(pathlib.Path("unused"), "source_only"))
    setup = assembly.create_setup(settings)
    state = assembly.create_train_state(setup, jax.random.key(0))
    changed, done = change_leaf(state, part, value)
    with checkpoint.Checkpoints(workdir, keep_last=9) as checkpoints:
        checkpoints.save(step, changed)
    return done[0]


@pytest.fixture
def run(saved_run, tmp_path) -> pathlib.Path:
    """A copy of the untrained run, whose only checkpoint is that of step 6."""
    shutil.copytree(saved_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("part", "value", "kind"),
    [
        ("segmenter/params/backbone", math.nan, "1 NaN"),
        ("segmenter/params/classifier", math.inf, "1 infinite"),
        ("segmenter/model_state/batch_stats/backbone/bn1/mean", -math.inf, "1 infinite"),
        ("segmenter/model_state/batch_stats/backbone/bn1/var", -0.5, "1 negative"),
    ],
)
def test_a_checkpoint_with_a_bad_number_is_refused(run, part, value, kind):
    name = spoil(run, 8, part, value)
    with pytest.raises(UserError, match=re.escape(f"({name}: {kind}")) as error:
        load_segmenter(run)
    assert "take another checkpoint, such as 6; training continues from that" in str(error.value)
    assert load_segmenter(run, "6").step == 6


def test_every_use_of_a_checkpoint_refuses_a_bad_number(run, data_dir, tmp_path):
    spoil(run, 8, "segmenter/params/backbone", math.nan)
    start = tiny.get_config(data_dir, "source_only")
    resumed = tiny.get_config(data_dir, "source_only")
    with start.unlocked(), resumed.unlocked():
        start.init_from = str(run)
        resumed.num_steps = 9
    for use in (
        lambda: evaluator.evaluate_checkpoint(run),
        lambda: train.train_and_evaluate(start, tmp_path / "other"),
        lambda: train.train_and_evaluate(resumed, run),
    ):
        with pytest.raises(UserError, match="was saved with numbers that no sound network has"):
            use()
    assert not (tmp_path / "other").exists()


def test_optimizer_states_are_looked_at_when_a_run_continues(run, data_dir):
    spoil(run, 8, "segmenter/opt_state", math.nan)
    config = tiny.get_config(data_dir, "source_only")
    with config.unlocked():
        config.num_steps = 9
    with pytest.raises(UserError, match=r"was saved with .*\(segmenter/opt_state/\S+: 1 NaN of "):
        train.train_and_evaluate(config, run)
    assert load_segmenter(run).step == 8  # Predicting needs no optimizer.


# Logits.


def overflow(workdir: pathlib.Path, part: str = "", value: float = 3e38) -> None:
    """Saves step 8 with weights that are finite, and too large."""
    settings = build_settings(tiny.get_config(pathlib.Path("unused"), "source_only"))
    state = assembly.create_train_state(assembly.create_setup(settings), jax.random.key(0))
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.full_like(x, value) if part in finite.name_path(path) else x,
        state.segmenter.params,
    )
    state = state.replace(segmenter=state.segmenter.replace(params=params))
    with checkpoint.Checkpoints(workdir, keep_last=9) as checkpoints:
        checkpoints.save(8, state)


def test_logits_that_overflow_are_named_by_image_in_evaluation_prediction_and_export(run, tmp_path):
    overflow(run)
    expected = r"The logits of step 8 are not finite for {} in [\d,]+ of 1,536 pixels"
    first = tiny.make_example(250)["image"]
    with pytest.raises(UserError, match=expected.format(r"\d{5}")):
        evaluator.evaluate_checkpoint(run)
    assert not (run / "evaluation" / "step_8.json").exists()
    segmenter = load_segmenter(run)
    height, width = first.shape[:2]
    with pytest.raises(UserError, match=expected.format(f"an image of {height} x {width}")):
        segmenter.predict([first])
    assert load_segmenter(run, "6").predict([first])[0].train_ids.shape == (height, width)
    export_segmenter(segmenter, tmp_path / "exported")
    assert "isfinite(entropy)" in (tmp_path / "exported" / "predict.py").read_text()


def test_padding_is_not_called_an_image():
    bad, good = np.full((2, 2), math.nan), np.zeros((2, 2))
    logits.check_finite(["a", "b"], [good, good], step=1)
    with pytest.raises(UserError, match=r"not finite for b in 4 of 4 pixels, padding in 4 of 4"):
        logits.check_finite(["a", "b", ""], [good, bad, bad], step=1)


# The first step.


def test_a_first_step_that_is_not_finite_does_not_blame_the_learning_rate(run, data_dir, tmp_path):
    """Its gradient overflows, though the logits that are evaluated before do not."""
    overflow(run, "classifier", 1e25)
    config = tiny.get_config(data_dir, "source_only")
    with config.unlocked():
        config.init_from = str(run)
    with pytest.raises(UserError, match=r"gradient_norm/segmenter is inf, .* at step 1 ") as error:
        train.train_and_evaluate(config, tmp_path / "other")
    assert "so the cause is no learning rate: check the weights at the start " in str(error.value)
    assert f"(config.init_from {run}; the largest is 1e+25, in classifier/" in str(error.value)
    assert "lower the learning rates" not in str(error.value)


# JSON.


def test_json_is_strict_and_reads_what_earlier_versions_wrote(tmp_path):
    for number in (math.nan, math.inf, np.float64("nan")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            files.to_json({"a": [number]})
    assert files.from_json('{"a": NaN, "b": [-Infinity, 1.5]}') == {"a": None, "b": [None, 1.5]}
    files.write_json(tmp_path / "a.json", {"a": None})
    assert (tmp_path / "a.json").read_text() == '{\n "a": null\n}\n'


def test_old_files_with_nan_are_read(trained_run, tmp_path):
    """Scores, metrics and studies of versions that wrote NaN; no number is made of it."""
    shutil.copytree(trained_run.workdir, tmp_path / "run")
    run = tmp_path / "run"
    path = scores.summary_path(run, 6)
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"mean_iou": math.nan, "mean_entropy": math.nan}))
    settings = build_settings(trained_run.config)
    read = scores.read_summary(run, 6, settings.evaluation)
    assert read is not None
    assert (read["mean_iou"], read["mean_entropy"]) == (None, None)
    assert scores.read_mean_iou(run, 6) is None
    (run / writers.FILE_NAME).write_text('{"step": 2, "loss/a": NaN}\n{"step": 4, "loss/a": 1}\n')
    writers.drop_lines_after(run / writers.FILE_NAME, 2)
    assert files.from_json((run / writers.FILE_NAME).read_text())["loss/a"] is None
    runs = [vars(study_scores.RunScores("m", None, 0, "m/seed_0", read, None, (read,)))]
    assert "NaN" not in files.to_json(runs)


# Files that format JSON: one writes it; the others print it for a parent process, or in a message,
# or write texts only.
FORMATTING = {
    "alp_jax/workdir/files.py",
    "alp_jax/data/digests.py",
    "alp_jax/data/labels.py",
    "benchmarks/input_pipeline.py",
    "benchmarks/startup.py",
    "benchmarks/train_step.py",
}


def test_json_is_written_in_one_place():
    root = pathlib.Path(__file__).parents[1]
    folders = ("alp_jax", "data_prep", "benchmarks")
    sources = [path for name in folders for path in (root / name).rglob("*.py")]
    found = {p.relative_to(root).as_posix() for p in sources if "json.dump" in p.read_text()}
    assert found == FORMATTING
