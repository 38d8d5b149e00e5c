"""A backbone and a decoder of one's own, each a file outside of the package."""

import dataclasses
import functools
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alp_jax import models
from alp_jax.data.samples import Sample
from alp_jax.errors import UserError
from alp_jax.models.settings import ModelSettings
from alp_jax.objective import optim, step
from alp_jax.objective.objective import Setup
from alp_jax.objective.optimizer_settings import OptimizerSettings
from alp_jax.objective.settings import create_objective
from alp_jax.objective.terms.cross_entropy import CrossEntropy
from alp_jax.objective.views.images import Images
from alp_jax.run import assembly
from alp_jax.settings.schema import build, to_config
from alp_jax.workdir import checkpoint
from alp_jax.workdir import config as run_config
from alp_jax.workdir.settings import RunSettings, build_settings
from configs import default

BACKBONE = """
    import dataclasses
    import flax.linen as nn
    from alp_jax.models.parts import Backbone, Group
    from alp_jax.settings.schema import setting

    class TwoLayers(nn.Module):
        width: int
        dtype: object

        @nn.compact
        def __call__(self, images, *, train):
            first = nn.relu(nn.Conv(self.width, (4, 4), 4, dtype=self.dtype, name="first")(images))
            return [first, nn.Conv(2 * self.width, (3, 3), dtype=self.dtype, name="second")(first)]

    @dataclasses.dataclass(frozen=True)
    class TwoLayersSettings(Backbone):
        width: int = setting(8, "Channels of the first layer.", at_least=1)
        stage_channels = property(lambda self: (self.width, 2 * self.width))

        def create(self, dtype):
            return TwoLayers(self.width, dtype)

        def group(self, path):
            return Group("backbone", decays=path[-1] == "kernel", depth=int(path[0] == "second"))

    BACKBONE = TwoLayersSettings
"""
DECODER = """
    import dataclasses
    import flax.linen as nn
    from alp_jax.models.parts import Decoder, Group
    from alp_jax.settings.schema import setting

    class Sum(nn.Module):
        num_classes: int
        rate: float

        @nn.compact
        def __call__(self, stages, *, train):
            dropped = [nn.Dropout(self.rate, deterministic=not train)(stage) for stage in stages]
            return sum(nn.Dense(self.num_classes)(stage) for stage in dropped)

    @dataclasses.dataclass(frozen=True)
    class SumSettings(Decoder):
        rate: float = setting(0.5, "Share of features that dropout sets to 0.", at_least=0, below=1)

        def create(self, num_classes, dtype):
            return Sum(num_classes, self.rate)

        def group(self, path):
            return Group("decoder")

    DECODER = SumSettings
"""


def write(path, text):
    path.write_text(textwrap.dedent(text))
    return str(path)


def build_model(backbone: dict[str, Any], **heads: dict[str, Any]) -> ModelSettings:
    fields = to_config(ModelSettings()).to_dict()
    fields["backbone"] = backbone
    fields["heads"] |= heads
    fields["input_std"] = [60.0, 60.0, 60.0]
    return build(ModelSettings, fields, name="config.model")


def create_setup(model: ModelSettings) -> Setup:
    segmenter = models.create_segmenter(model, 4)
    views = {"source": Images(name="source")}
    terms = {"cross_entropy": CrossEntropy(name="cross_entropy")}
    objective = create_objective(views, terms, heads=segmenter.heads)
    settings = OptimizerSettings(segmenter_learning_rate=1e-4)
    optimizer = optim.create_segmenter_optimizer(settings, segmenter)
    return Setup(segmenter, objective, optimizer, optim.create_own_optimizer(settings))


def test_a_backbone_without_batch_norm_trains(tmp_path):
    path = write(tmp_path / "two_layers.py", BACKBONE)
    setup = create_setup(build_model({"kind": path, "width": 6}))
    train_state = assembly.create_train_state(setup, jax.random.key(0))
    assert train_state.segmenter.model_state == {}
    groups = train_state.segmenter.opt_state.inner_states
    assert list(groups) == ["backbone[1]", "classifier", "frozen"]
    assert train_state.segmenter.params["backbone"]["first"]["kernel"].shape == (4, 4, 3, 6)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 16, 24, 3)).astype(np.uint8)
    batch = {"source": Sample(images, rng.integers(0, 4, (2, 16, 24)).astype(np.uint8))}
    train_step = jax.jit(functools.partial(step.train_step, setup=setup))
    losses = []
    for _ in range(3):
        train_state, scalars = train_step(train_state, batch, jax.random.key(1))
        losses.append(float(scalars["loss/segmenter"]))
    assert losses[-1] < losses[0]
    assert train_state.segmenter.model_state == {}


def test_a_decoder_reads_all_stages_and_its_dropout_takes_the_key(tmp_path):
    backbone = {"kind": write(tmp_path / "two_layers.py", BACKBONE), "width": 6}
    decoder = {"kind": write(tmp_path / "sum.py", DECODER), "rate": 0.5}
    model = build_model(
        backbone,
        main={**decoder, "stage": -1},
        zebra={**decoder, "stage": -2},
        aux=decoder | {"stage": -1},
    )
    segmenter = models.create_segmenter(model, 4)
    assert segmenter.heads == ("main", "aux", "zebra")
    params, model_state = jax.jit(segmenter.init)(jax.random.key(0))
    assert set(params) == {"backbone", "classifier", "aux_classifier", "zebra_classifier"}
    assert len(params["classifier"]) == 2
    assert len(params["zebra_classifier"]) == 1
    segmenter.groups(params)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3)), jnp.float32)

    @jax.jit
    def compute(key: jax.Array) -> jax.Array:
        outputs, _ = segmenter.apply(params, model_state, images, train=True, key=key)
        return outputs.logits["main"]

    first, again, other = (np.asarray(compute(jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    evaluated, _ = jax.jit(functools.partial(segmenter.apply, train=False))(
        params, model_state, images
    )
    assert np.any(evaluated.logits["main"] != first)


def test_an_incomplete_file_says_what_is_missing(tmp_path):
    text = BACKBONE.replace("def group", "def other")
    path = write(tmp_path / "incomplete.py", text)
    with pytest.raises(UserError, match=r"config.model.backbone.kind is .* lacks group"):
        build_model({"kind": path, "width": 6})
    path = write(tmp_path / "other.py", "class Other:\n    pass\nBACKBONE = Other\n")
    expected = "expected a file whose class inherits from alp_jax.models.parts.Backbone"
    with pytest.raises(UserError, match=f"other.py': {expected}, and Other in"):
        build_model({"kind": path})
    text = BACKBONE.replace("Settings(Backbone)", "Settings").replace("Backbone, ", "")
    path = write(tmp_path / "without_base.py", text)
    with pytest.raises(UserError, match=f"without_base.py': {expected}, and TwoLayersSettings in"):
        build_model({"kind": path, "width": 6})


def test_a_parameter_that_the_file_does_not_label_is_named(tmp_path):
    text = BACKBONE.replace('return Group("', 'return None if path[0] == "second" else Group("')
    path = write(tmp_path / "unlabelled.py", text)
    segmenter = models.create_segmenter(build_model({"kind": path, "width": 6}), 4)
    params, _ = jax.eval_shape(segmenter.init, jax.random.key(0))
    with pytest.raises(UserError, match=r"backbone/second/bias belongs to no group: .*Settings"):
        segmenter.groups(params)


def test_weights_of_another_backbone_are_refused_by_its_kind(tmp_path):
    path = write(tmp_path / "two_layers.py", BACKBONE)
    usual = RunSettings()
    other = dataclasses.replace(usual, model=build_model({"kind": path, "width": 6}))
    for settings, saved in ((usual, other), (other, usual)):
        with pytest.raises(UserError, match=r"belong to config.model.backbone.kind .*: take a con"):
            run_config.check_same_network(settings, saved, tmp_path, parts={"backbone"})


@pytest.mark.parametrize("has_other_head", [False, True])
def test_statistics_of_a_decoder_start_afresh_from_weights_without_it(tmp_path, has_other_head):
    backbone = {"kind": write(tmp_path / "two_layers.py", BACKBONE), "width": 6}
    text = DECODER.replace(
        "dropped = [", "stages = [nn.BatchNorm(not train)(s) for s in stages]; dropped = ["
    )
    decoder = {"kind": write(tmp_path / "sum.py", text), "rate": 0.5, "stage": -1}
    model = build_model(backbone, main=decoder)
    usual = build_settings(default.get_config("source_only"))
    settings = dataclasses.replace(usual, model=model, init_from=str(tmp_path / "run"))
    run_config.save(settings, tmp_path / "run")
    ours, theirs = (
        assembly.create_train_state(create_setup(model), jax.random.key(seed)) for seed in (0, 1)
    )
    saved = {"params": {"backbone": theirs.segmenter.params["backbone"]}, "model_state": {}}
    if has_other_head:
        statistics = theirs.segmenter.model_state["batch_stats"]["classifier"]
        saved["params"]["aux_classifier"] = theirs.segmenter.params["classifier"]
        saved["model_state"] = {"batch_stats": {"aux_classifier": statistics}}
    with checkpoint.Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(0, {"segmenter": saved})
    started = assembly.init_from(settings, ours).segmenter
    assert jax.tree.structure(started) == jax.tree.structure(ours.segmenter)
    for name, origin in (("backbone", theirs), ("classifier", ours)):
        trees = (started.params[name], origin.segmenter.params[name])
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *trees)))
    assert started.model_state["batch_stats"].keys() == {"classifier"}
