"""A run starts from weights: which arrays it takes of them, and which are fresh ones."""

import jax
import numpy as np
import pytest

from alp_jax.errors import UserError
from alp_jax.run import assembly, train
from alp_jax.study import plan
from alp_jax.workdir import checkpoint
from alp_jax.workdir import config as run_config
from alp_jax.workdir.finite import name_path
from alp_jax.workdir.settings import build_settings
from tests import tiny
from tests.tiny import change

THREE = "classes: [a, b, c]\n"


@pytest.fixture
def three_classes(data_dir, saved_run, tmp_path):
    """A configuration with three classes, to start from the run with sixteen."""
    (tmp_path / "three.yaml").write_text(THREE)

    def create(variant="alp_gi", **fields):
        config = tiny.get_config(data_dir, variant)
        start = {"init_from": str(saved_run), "data.label_set": str(tmp_path / "three.yaml")}
        return change(config, **start, **fields)

    return create


def arrays(tree):
    return {
        name_path(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def start(config, seed=1):
    """Starts as training does; returns the fresh state and the state of the start."""
    settings = build_settings(config)
    entry = assembly.create_train_state(assembly.create_setup(settings), jax.random.key(seed))
    return entry, assembly.init_from(settings, entry)


def read_backbone(workdir):
    settings = run_config.load(workdir)
    segmenter = assembly.create_setup(settings).segmenter
    params, model_state = jax.eval_shape(segmenter.init, jax.random.key(0))
    with checkpoint.Checkpoints(workdir, read_only=True) as checkpoints:
        params, model_state = checkpoints.restore_segmenter(6, params, model_state)
    held = {"params": {"backbone": params["backbone"]}, "model_state": model_state}
    return arrays({"segmenter": held})


@pytest.mark.parametrize(
    ("variant", "afresh"), [("alp_gi", "classifier"), ("advent", "aux_classifier, classifier")]
)
def test_other_classes_keep_the_backbone_and_nothing_else_bit_by_bit(
    variant, afresh, three_classes, saved_run, caplog
):
    with caplog.at_level("INFO", logger="alp_jax"):
        fresh, started = start(three_classes(variant, init_heads="new"))
    assert f"initialised afresh: {afresh}. Its classifier is not used." in caplog.text
    backbone, fresh, started = read_backbone(saved_run), arrays(fresh), arrays(started)
    assert started.keys() == fresh.keys() >= backbone.keys()
    for name, array in started.items():
        expected = backbone.get(name, fresh[name])
        assert array.tobytes() == expected.tobytes(), name
    # The test can fail: neither the backbone nor the classifiers are the same by chance.
    kernels = [name for name in backbone if name.endswith("kernel")]
    assert any(backbone[name].tobytes() != fresh[name].tobytes() for name in kernels)
    assert any("segmenter/params/classifier" in name for name in started.keys() - backbone.keys())
    assert any("discriminator" in name for name in started.keys() - backbone.keys())


def test_other_classes_are_an_error_that_names_the_field(three_classes):
    with pytest.raises(UserError, match="tell other classes apart: class number 1") as error:
        start(three_classes())
    assert "give --config.init_heads=new to take the backbone alone" in str(error.value)


def test_heads_of_another_shape_may_begin_anew_too(data_dir, saved_run):
    fields = {"init_from": str(saved_run), "model.heads.main.dilations": (3, 4)}
    config = change(tiny.get_config(data_dir), **fields)
    with pytest.raises(UserError, match=r"or --config\.init_heads=new to begin the classifiers"):
        start(config)
    fresh, started = start(change(config, init_heads="new"))
    for ours, theirs in zip(
        jax.tree.leaves(started.segmenter.params["classifier"]),
        jax.tree.leaves(fresh.segmenter.params["classifier"]),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_the_backbone_must_be_the_same_all_the_same(three_classes):
    config = three_classes(init_heads="new", **{"model.input_order": "bgr"})
    with pytest.raises(UserError, match=r"set --config.model.input_order=rgb, or start") as error:
        start(config)
    assert "init_heads" not in str(error.value)


def test_a_run_with_new_heads_trains(data_dir, saved_run, tmp_path):
    fields = {"init_from": str(saved_run), "init_heads": "new", "num_steps": 1}
    config = change(tiny.get_config(data_dir, "source_only"), **fields)
    assert train.train_and_evaluate(config, tmp_path / "run")["step"] == 1


def test_wrong_values_of_init_heads_are_refused(data_dir):
    with pytest.raises(UserError, match=r"config.init_heads is 'keep': expected one of same, new"):
        build_settings(change(tiny.get_config(data_dir), init_heads="keep"))


# A study trains the starts of its methods itself.


def create_plan(tmp_path, *overrides, methods=("alp_gi",), sweep=None):
    return plan.create_plan(
        tmp_path,
        "configs/toy_cities.py",
        overrides=list(overrides),
        methods=methods,
        num_seeds=1,
        sweep=sweep,
    )


@pytest.mark.parametrize(
    ("overrides", "sweep"),
    [(["--config.init_from=pretrained/x"], None), ([], "init_from:pretrained/x,pretrained/y")],
)
def test_a_study_that_would_not_use_the_given_start_refuses_it(tmp_path, overrides, sweep):
    message = (
        r"^--config.init_from=pretrained/x is given, but alp_gi starts from the study's own run "
        r"of warmup, .* add --config.start_variant= to start from it instead\.$"
    )
    with pytest.raises(UserError, match=message):
        create_plan(tmp_path, *overrides, sweep=sweep)


def test_a_study_starts_from_given_weights_once_its_own_start_is_taken_off(tmp_path):
    flags = ["--config.init_from=pretrained/x", "--config.start_variant="]
    made = create_plan(tmp_path, *flags, methods=("alp_gi", "source_only"))
    assert made.starts == ()
    assert {run.config.init_from for run in made.runs} == {"pretrained/x"}
