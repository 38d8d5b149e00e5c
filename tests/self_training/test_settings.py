"""The settings of rounds, and the published numbers of the methods that use them."""

import pytest

from alp_jax.errors import UserError
from alp_jax.objective.settings import teacher, view
from alp_jax.settings.schema import to_config
from alp_jax.workdir import config as run_config
from alp_jax.workdir.settings import RunSettings, build_settings
from configs import default, toy_cities
from tests.refusals import refusal

METHODS = ("st", "cbst", "cbst_sp", "mrkld", "mrent", "mrl2", "lrent")


@pytest.mark.parametrize("method", METHODS)
def test_methods_have_the_numbers_of_crsts_code(method):
    config = default.get_config(method)
    rounds = config.rounds
    assert (rounds.num_rounds, config.num_steps) == (3, 3 * rounds.steps_per_round)
    # 2 epochs of batches of two, over 2,975 target images and 3 to 3.5 % of 19,984 source images.
    epochs = [2 * -(-(2975 + int(19_984 * share)) // 2) for share in (0.03, 0.0325, 0.035)]
    assert epochs == [3574, 3624, 3674]
    assert rounds.steps_per_round == sum(epochs) / 3
    assert (rounds.portion, rounds.portion_step, rounds.portion_most) == (0.2, 0.05, 0.5)
    assert (rounds.prediction_scales, rounds.prediction_flip) == ((0.9,), True)
    assert (rounds.crop_size, rounds.scale_range) == ((512, 1024), (0.5, 1.5))
    assert (rounds.confidence_stride, rounds.mined_share) == (4, 1e-3)
    assert rounds.mining_probability == (0.0 if method == "st" else 0.8)
    assert rounds.balance == ("global" if method == "st" else "class")
    assert rounds.prior == ("spatial" if method == "cbst_sp" else "none")
    optimizer = config.optimizer
    rates = optimizer.segmenter_learning_rate, optimizer.classifier_learning_rate_multiplier
    assert (*rates, optimizer.poly_power) == (5e-5, 10.0, 0.0)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 5e-4)
    assert config.model.backbone.batch_norm_mode == "frozen"
    assert config.data.batch_size == 2
    if method in ("mrkld", "mrent", "mrl2"):
        assert config.terms.regularizer.weight == 0.01
    expected = {"kind": "round_start", "temperature": 0.25} if method == "lrent" else None
    assert config.teacher.to_dict() == (expected or {"kind": "none"})


def test_the_demo_has_rounds_of_its_length():
    config = toy_cities.get_config("cbst")
    assert config.num_steps == config.rounds.num_rounds * config.rounds.steps_per_round == 500


def test_a_run_without_rounds_has_none():
    assert build_settings(default.get_config("alp_gi")).rounds.num_rounds == 0


def refuse(method="cbst", **changes):
    config = default.get_config(method)
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return refusal(lambda: build_settings(config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 10_873}, "config.num_steps is 10873: expected at most num_rounds * steps_"),
        ({"rounds.num_rounds": 0}, "config.views.self_training.domain is 'self_training': expect"),
        ({"rounds.portion": 0.0}, "config.rounds.portion is 0.0: expected above 0 and at most 1"),
        ({"rounds.scale_range": (1.5, 0.5)}, "is [1.5, 0.5]: expected the least factor first"),
        ({"rounds.prior_blur": 4}, "prior_blur is 4: expected 0 or an odd number of pixels"),
        ({"rounds.balance": "classes"}, "is 'classes': expected one of class, global"),
    ],
)
def test_wrong_fields_are_one_sentence(changes, message):
    assert message in refuse(**changes)


def test_rounds_and_what_needs_them_come_together():
    assert "0, as no view of config.views reads the domain self_training" in refuse(
        "source_only", **{"rounds.num_rounds": 2, "num_steps": 100}
    )
    config = default.get_config("source_only")
    with config.unlocked():
        config.teacher = teacher("round_start")
    message = refusal(lambda: build_settings(config))
    assert "num_rounds is 0: expected above 0 with that teacher" in message
    config = default.get_config("lrent")
    with config.unlocked():
        config.teacher = teacher("none")
    message = refusal(lambda: build_settings(config))
    assert message.startswith("config.views.self_training needs a teacher")
    config = default.get_config("source_only")
    with config.unlocked():
        config.views.source = view("soft_labelled")
        config.teacher = teacher("round_start")
    with pytest.raises(UserError):
        build_settings(config)


def test_a_run_of_an_earlier_version_has_no_rounds(tmp_path):
    config = default.get_config("source_only")
    run_config.save(build_settings(config), tmp_path)
    path = tmp_path / run_config.FILE_NAME
    fields = run_config.json.loads(path.read_text())
    del fields["rounds"], fields["teacher"]
    path.write_text(run_config.json.dumps(fields))
    assert to_config(run_config.load(tmp_path)) == to_config(build_settings(config))
    assert RunSettings().rounds.num_rounds == 0
