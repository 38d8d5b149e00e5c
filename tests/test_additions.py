"""METHOD+ADDITION: an alignment on top of any method."""

import pytest

from alp_jax.errors import UserError
from alp_jax.settings.compare import flatten
from alp_jax.workdir.settings import build_settings
from configs import default, gta5_to_cityscapes, synthia_to_cityscapes, toy_cities
from tests.test_study import plan_toy


@pytest.mark.parametrize(
    ("variant", "same"), [("source_only+alp", "alp_gi"), ("source_only+whole", "agp_gi")]
)
@pytest.mark.parametrize("module", [default, gta5_to_cityscapes, synthia_to_cityscapes, toy_cities])
def test_on_source_only_they_are_the_papers_methods(variant, same, module):
    added, ours = flatten(module.get_config(variant)), flatten(module.get_config(same))
    renamed = {name.replace("terms.alignment", "terms.adversarial"): v for name, v in added.items()}
    assert renamed == ours


@pytest.mark.parametrize("addition", ["alp", "whole"])
@pytest.mark.parametrize("method", default.list_methods())
def test_every_method_takes_them_and_keeps_its_own_terms(method, addition):
    alone = flatten(toy_cities.get_config(method))
    config = toy_cities.get_config(f"{method}+{addition}")
    settings = build_settings(config)
    added = settings.terms["alignment"]
    assert (added.weight, added.key) == (0.01, "alignment")
    kind = config.terms.alignment.patches.kind
    assert kind == {"alp": "random", "whole": "whole"}[addition]
    assert alone.items() <= flatten(config).items()


def test_a_file_of_ones_own_adds_and_is_added_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.py").write_text("def apply(config):\n    config.seed = 7\n")
    (tmp_path / "mine.py").write_text("from configs.methods.alp_gi import apply\n")
    config = toy_cities.get_config("mine.py+more.py+whole")
    assert (config.seed, set(config.terms)) == (7, {"cross_entropy", "adversarial", "alignment"})
    (tmp_path / "a+b.py").write_text("from configs.methods.alp_gi import apply\n")
    assert "adversarial" in toy_cities.get_config("a+b.py").terms
    assert toy_cities.get_config("ap_ci+alp").start_variant == "warmup_crops"


def test_a_study_takes_them():
    plan = plan_toy("source_only", "source_only+alp", sweep="alignment.weight:0.1,0.2")
    assert [run.folder for run in plan.runs] == [
        "source_only/seed_0",
        "source_only+alp-terms.alignment.weight-0.1/seed_0",
        "source_only+alp-terms.alignment.weight-0.2/seed_0",
    ]


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("alp_gi+alp2", "Unknown variant 'alp_gi+alp2'"),
        ("a_plus_e+alp", "a_plus_e+alp adds to an ensemble"),
        ("alp_gi+", "Unknown variant 'alp_gi+'"),
    ],
)
def test_wrong_additions_are_refused(variant, message):
    with pytest.raises(UserError) as error:
        toy_cities.get_config(variant)
    assert message in str(error.value)
