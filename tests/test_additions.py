"""An addition is one file that puts a term on top of any method."""

import pytest

from alp_jax.objective.placements.random import RandomPatches
from alp_jax.objective.placements.whole import Whole
from alp_jax.workdir.settings import build_settings
from configs import default, toy_cities
from tests.refusals import refusal

METHODS = default.list_methods()


@pytest.mark.parametrize("addition", default.list_additions())
@pytest.mark.parametrize("method", METHODS)
def test_every_addition_fits_on_every_method(method, addition):
    for module in (default, toy_cities):
        plain = build_settings(module.get_config(method))
        found = build_settings(module.get_config(f"{method}+{addition}"))
        added = found.terms.keys() - plain.terms.keys()
        assert added == {f"adversarial_{addition}"}
        assert {name: found.terms[name] for name in plain.terms} == plain.terms
        assert {name: found.views[name] for name in plain.views} == plain.views
        assert {"source", "target"} <= found.views.keys()
        assert found.model == plain.model
        assert found.optimizer == plain.optimizer
        term = found.terms[f"adversarial_{addition}"]
        assert term.heads == plain.model.prediction
        assert type(term.patches) is {"alp": RandomPatches, "agp": Whole}[addition]


def test_alp_on_source_only_is_alp_gi():
    for module in (default, toy_cities):
        added = build_settings(module.get_config("source_only+alp"))
        method = build_settings(module.get_config("alp_gi"))
        term = dict(vars(added.terms["adversarial_alp"]), name="adversarial")
        assert term == vars(method.terms["adversarial"])
        assert added.views == method.views
        assert added.model == method.model


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("minent+alq", "The addition is 'alq' (did you mean alp?): expected one of agp, alp"),
        ("minnet+alp", "Unknown variant 'minnet+alp' (did you mean minent?): expected one of"),
        ("warmup+alp", "The variant is 'warmup+alp', and warmup takes no additions: expected"),
        ("a_plus_e+alp", "a_plus_e is an ensemble of advent, minent_er, which is evaluated"),
        ("minent+alp+alp", "The variant is 'minent+alp+alp': expected each addition once."),
        ("CLAN", "Unknown variant 'CLAN' (did you mean clan?): expected one of a_plus_e, "),
        ("cbst_SP", "Unknown variant 'cbst_SP' (did you mean cbst_sp?): expected one of"),
        ("minent+", "The addition is '': expected one of agp, alp"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(variant, message):
    assert refusal(lambda: toy_cities.get_config(variant)).startswith(message)
