import ml_collections
import pytest

from alp_jax.settings.compare import as_flag, as_flags, differences, flatten

NESTED = {"seed": 0, "data": {"size": (2, 3), "name": "a", "more": {"x": 1.5}}, "terms": {}}
FLAT = {"seed": 0, "data.size": [2, 3], "data.name": "a", "data.more.x": 1.5}


@pytest.mark.parametrize("config", [NESTED, ml_collections.ConfigDict(NESTED)])
def test_nested_fields_become_names_with_dots(config):
    assert flatten(config) == FLAT


def test_the_same_values_do_not_differ():
    saved = {**NESTED, "data": {**NESTED["data"], "size": [2, 3]}}
    assert list(differences(ml_collections.ConfigDict(NESTED), saved)) == []


def test_differences_are_in_order_with_both_values():
    saved = {"seed": 1, "data": {"size": [2, 3], "more": {"x": 1.5}}, "added": "b"}
    assert list(differences(ml_collections.ConfigDict(NESTED), saved)) == [
        ("added", None, "b"),
        ("data.name", "a", None),
        ("seed", 0, 1),
    ]


def test_a_kind_comes_before_the_fields_that_depend_on_it():
    ours = {"backbone": {"depth": 1, "kind": "a"}, "aux": 1}
    saved = {"backbone": {"blocks": 2, "kind": "b"}, "aux": 2}
    names = [name for name, _, _ in differences(ours, saved)]
    assert names == ["aux", "backbone.kind", "backbone.blocks", "backbone.depth"]


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (2, "--config.a.b=2"),
        ("x", "--config.a.b=x"),
        (False, "--config.a.b=False"),
        ((32, 64), "--config.a.b=32,64"),
        ([0.5, 1.0], "--config.a.b=0.5,1.0"),
    ],
)
def test_a_value_is_written_as_its_flag(value, flag):
    assert as_flag("a.b", value) == flag
    assert as_flags({"a.b": value}) == [flag]
