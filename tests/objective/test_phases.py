"""Phases of a step: what a file of one's own may return, and what is refused before training."""

import pytest

from alp_jax.objective.settings import updates
from alp_jax.workdir.settings import build_settings
from configs import default
from tests.refusals import refusal

FILE = """
import dataclasses
from alp_jax.objective.phases import JOINT, Phase, Updates


class Mine(Updates):
    def list_phases(self, terms):
        supervised = Phase({{"cross_entropy": 1.0}})
        all_terms, twice = JOINT, Phase(repeats=2)
        return {phases}


UPDATES = Mine
"""
OWNS = "config.terms.adversarial owns parameters, and the first phase of config.updates that it "


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ("(all_terms,)", None),
        ("(supervised, all_terms)", None),
        ("(all_terms, twice)", None),
        ("(twice,)", OWNS + "takes part in is made 2 times: expected an earlier phase with it"),
        ("(supervised, twice)", OWNS + "takes part in is made 2 times: expected an earlier phase"),
        ("(supervised,)", "config.terms.adversarial takes part in no phase of config.updates: exp"),
        ("()", "The list_phases of config.updates returns (): expected a tuple of at least one"),
        ("[all_terms]", "The list_phases of config.updates returns [Phase("),
    ],
)
def test_phases_of_which_no_step_can_be_made_are_refused(phases, message, tmp_path):
    path = tmp_path / "my_updates.py"
    path.write_text(FILE.format(phases=phases))
    config = default.get_config("agp_gi")
    with config.unlocked():
        config.updates = updates(str(path))
    found = refusal(lambda: build_settings(config))
    assert found == message if message is None else found.startswith(message), found


@pytest.mark.parametrize("addition", ["alp", "agp"])
def test_an_alignment_goes_on_top_of_mcd(addition):
    settings = build_settings(default.get_config(f"mcd+{addition}"))
    first, second, third = settings.updates.list_phases(settings.terms)
    name = f"adversarial_{addition}"
    assert [phase.factor_of(name) for phase in (first, second, third)] == [1, 0, 0]
