import dataclasses
import json
import math
import pathlib
from typing import Any, ClassVar, Literal

import hypothesis
import ml_collections
import pytest
from hypothesis import strategies as st

from alp_jax.command import configuration
from alp_jax.errors import UserError
from alp_jax.settings import schema
from alp_jax.settings.compare import flatten, list_fields
from alp_jax.settings.schema import Channels, Size, build, describe, refuse, setting, to_config


@dataclasses.dataclass(frozen=True)
class Data:
    """Settings of the data (config.data)."""

    source: str = setting("gta5/all", "Labelled domain.")
    batch_size: int = setting(1, "Images of each domain in a step.", at_least=1)
    flip_probability: float = setting(
        0.0, "Probability of a horizontal flip.", at_least=0, at_most=1
    )
    source_size: Size = setting((720, 1280), "Size that source images are resized to.")
    image_resize: Literal["bicubic", "bilinear"] = setting("bicubic", "How images are resized.")
    num_workers: int = setting(0, "Processes that read ahead.", at_least=0, operational=True)


@dataclasses.dataclass(frozen=True)
class Model:
    OF_WEIGHTS: ClassVar[bool] = True

    depths: tuple[int, ...] = setting((3, 4), "Blocks of a stage.", above=0, non_empty=True)
    widths: tuple[int, ...] = setting((64, 128), "Channels of a stage.", above=0, non_empty=True)
    input_mean: Channels = setting((104.0, 116.5, 122.0), "Mean of each channel.")
    input_std: Channels = setting((1.0, 1.0, 1.0), "Deviation of each channel.", above=0)
    plain: tuple[float, float, float] = setting((0.0, 0.0, 0.0), "Three numbers.")
    pair: tuple[int, int] = setting((0, 0), "Two numbers.", at_least=-1)
    kernel_init: Literal["normal", "he"] = setting("normal", "Start.", of_weights=False)
    scan: bool = setting(True, "Whether equal blocks are one loop.", of_weights=False)

    def check(self, name: str) -> None:
        if len(self.widths) != len(self.depths):
            expected = f"{len(self.depths)} numbers, one for each stage of {name}.depths"
            refuse(f"{name}.widths", self.widths, expected)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    OPERATIONAL: ClassVar[bool] = True

    every_steps: int = setting(2000, "Steps between evaluations.", at_least=1)
    scales: tuple[float, ...] = setting((1.0,), "Scales of the input.", at_least=0.5, below=4)
    split: str = setting("validation", "Scored split.", operational=False)


@dataclasses.dataclass(frozen=True)
class Run:
    seed: int = setting(0, "Decides the order of data.", at_least=0)
    num_classes: int = setting(19, "Classes.", choices=(19, 16, 13))
    temperature: float = setting(0.5, "Of the softmax.")
    momentum: float = setting(0.9, "Of SGD.", at_least=0, below=1)
    rate: float = setting(1e-3, "Learning rate.", at_least=0)
    domains: tuple[str, ...] = setting(
        ("source", "target"), "Update the statistics.", choices=("source", "target")
    )
    files: tuple[str, ...] = setting((), "Files to read.")
    data: Data = Data()
    model: Model = dataclasses.field(default_factory=Model)
    evaluation: Evaluation = Evaluation()


DEFAULTS = json.dumps(to_config(Run()).to_dict())


def make(**changed: Any) -> dict[str, Any]:
    """The configuration as read from JSON, with some fields changed ("." is "__")."""
    fields = json.loads(DEFAULTS)
    for path, value in changed.items():
        *sections, last = path.split("__")
        node = fields
        for section in sections:
            node = node[section]
        node[last] = value
    return fields


def refusal(config: Any, cls: type = Run) -> str:
    with pytest.raises(UserError) as caught:
        build(cls, config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_survive_the_configuration_and_json():
    config = to_config(Run())
    assert isinstance(config, ml_collections.ConfigDict)
    assert config.data.source_size == (720, 1280)
    assert build(Run, config) == Run()
    assert build(Run, config.lock()) == Run()
    assert build(Run, ml_collections.FrozenConfigDict(config)) == Run()
    assert build(Run, make()) == Run()
    assert build(Run, ml_collections.ConfigDict(make())) == Run()


def test_values_have_the_declared_types():
    built = build(Run, make(rate=1, evaluation__scales=[1, 2], data__source_size=[4, 8]))
    assert type(built.rate) is float
    assert [type(scale) for scale in built.evaluation.scales] == [float, float]
    assert built.data.source_size == (4, 8)
    config = to_config(Run(rate=1, evaluation=Evaluation(scales=[1])))
    assert type(config.rate) is float, "else --config.rate=0.5 would be refused"
    assert config.evaluation.scales == (1.0,)


def test_a_default_out_of_its_range_is_refused():
    with pytest.raises(UserError, match="seed is -1: expected at least 0"):
        to_config(Run(seed=-1))


def test_a_configuration_file_and_flags_change_values(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(
        "from alp_jax.settings import schema\n"
        "from tests.settings.test_schema import Run\n"
        "def get_config(variant=''):\n"
        "    config = schema.to_config(Run()).lock()\n"
        "    with config.unlocked():\n"
        "        config.data.batch_size = 4\n"
        "    return config\n"
    )
    overrides = ["rate=2", "data.source_size=32,64", "model.scan=False", "domains='target',"]
    config = configuration.read_config(
        str(path), "alp_gi", [f"--config.{each}" for each in overrides]
    )
    built = build(Run, config)
    assert (built.data.batch_size, built.rate, built.data.source_size) == (4, 2.0, (32, 64))
    assert (built.model.scan, built.domains) == (False, ("target",))


# Types -------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str, tuple[Any, ...]]] = {
    "data__source": ("a text", (3, None, True, ["a"], {})),
    "data__batch_size": ("a whole number", (True, 1.0, "1", None, [1], {})),
    "rate": ("a number", (True, "1", None, [1.0], {})),
    "model__scan": ("True or False", (0, 1, "true", None, [True])),
    "data__image_resize": ("one of bicubic, bilinear", ("cubic", 3, None, ["bicubic"], {})),
    "num_classes": ("one of 19, 16, 13", (17, "19", 19.0, True, None)),
    "data__source_size": (
        "(height, width) in pixels, both at least 1",
        ([720], [1, 2, 3], [0, 1], [1, -1], [1.0, 2], ["a", "b"], [True, 1], 720, "720,1280", {}),
    ),
    "model__depths": (
        "a non-empty list of whole numbers",
        ([1.0], ["1"], [True], [None], [[1]], 1, "1", None, {}),
    ),
    "model__input_mean": (
        "3 numbers, one for each channel",
        ([1.0], [1, 2, 3, 4], [], ["a", "b", "c"], [True, 1, 1], 1.0, None, {}),
    ),
    "model__plain": ("a list of 3 numbers", ([1.0], [1, 2, 3, 4], [], [1, 2, "3"], 1, None)),
    "model__pair": ("a list of 2 whole numbers", ([1], [1, 2, 3], [1, 2.0], 1, None)),
    "evaluation__scales": ("a list of numbers", ([True], ["1"], [[1.0]], 1.0, "1", None, {})),
    "files": ("a list of texts", ([1], [None], [["a"]], "a", None, {})),
    "domains": (
        "a selection of source and target, such as ('target',)",
        (["both"], [1], "source", None, {}),
    ),
}


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [(field, value, words) for field, (words, values) in WRONG.items() for value in values],
)
def test_a_wrong_type_is_named_with_what_is_expected(field, value, expected):
    full = "config." + field.replace("__", ".")
    assert refusal(make(**{field: value})) == f"{full} is {value!r}: expected {expected}."


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("data__batch_size", 0, "at least 1, and finite"),
        ("seed", -1, "at least 0, and finite"),
        ("rate", -0.1, "at least 0, and finite"),
        ("rate", math.nan, "at least 0, and finite"),
        ("rate", math.inf, "at least 0, and finite"),
        ("rate", 10**400, "at least 0, and finite"),
        ("temperature", math.nan, "a finite number"),
        ("temperature", -math.inf, "a finite number"),
        ("data__flip_probability", 1.5, "at least 0 and at most 1"),
        ("data__flip_probability", -1, "at least 0 and at most 1"),
        ("momentum", 1.0, "at least 0 and below 1"),
        ("momentum", math.nan, "at least 0 and below 1"),
        ("model__depths", [], "a non-empty list of whole numbers above 0"),
        ("model__depths", [1, 0], "a non-empty list of whole numbers above 0"),
        ("model__input_std", [1.0, 0.0, 1.0], "a list of numbers above 0"),
        ("model__input_std", [1.0, math.inf, 1.0], "a list of numbers above 0"),
        ("model__input_mean", [1.0, math.nan, 1], "3 numbers, one for each channel, all finite"),
        ("model__plain", [1.0, math.nan, 1.0], "a list of 3 numbers, all finite"),
        ("model__pair", [0, -2], "a list of whole numbers of at least -1"),
        ("evaluation__scales", [4.0], "a list of numbers of at least 0.5 and below 4"),
        ("evaluation__scales", [math.nan], "a list of numbers of at least 0.5 and below 4"),
    ],
)
def test_a_value_out_of_range_is_named_with_the_range(field, value, expected):
    full = "config." + field.replace("__", ".")
    assert refusal(make(**{field: value})) == f"{full} is {value!r}: expected {expected}."


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data__batch_size", 1),
        ("data__flip_probability", 0),
        ("data__flip_probability", 1),
        ("momentum", 0.0),
        ("rate", 0),
        ("seed", 10**400),
        ("domains", []),
        ("files", []),
        ("evaluation__scales", []),
        ("num_classes", 13),
        ("model__pair", [-1, 0]),
        ("data__source", ""),
    ],
)
def test_the_ends_of_a_range_are_accepted(field, value):
    *sections, last = field.split("__")
    node: Any = build(Run, make(**{field: value}))
    for section in sections:
        node = getattr(node, section)
    assert getattr(node, last) == (tuple(value) if isinstance(value, list) else value)


def test_a_tuple_is_shown_as_the_list_in_json():
    config = to_config(Run())
    config.data.source_size = (720,)
    assert "config.data.source_size is [720]: expected" in refusal(config)


ANY = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.lists(st.integers(-1, 9) | st.floats() | st.text(max_size=2), max_size=4)
    | st.sampled_from([{}, {"a": 1}, [[1]], "bilinear", ["target"], [32, 64]])
)  # fmt: skip
FIELDS = [*flatten(to_config(Run())), "data", "model", "evaluation", "other", "data.other"]


@hypothesis.given(st.dictionaries(st.sampled_from(FIELDS), ANY, max_size=3))
def test_any_configuration_is_accepted_or_refused_in_one_sentence(changed):
    config = make()
    for name, value in sorted(changed.items(), reverse=True):  # Fields before their sections.
        *sections, last = name.split(".")
        (config[sections[0]] if sections else config)[last] = value
    try:
        built = build(Run, config)
    except UserError as error:
        message = str(error)
    else:
        message = "config"
        assert build(Run, to_config(built)) == built
    assert "config" in message
    assert "\n" not in message


# Fields ------------------------------------------------------------------------------------------


def test_a_missing_field_is_named_with_the_file_to_start_from():
    config = to_config(Run())
    del config.data.batch_size
    lacks = "The configuration lacks config.data.batch_size: start from"
    assert refusal(config) == f"{lacks} configs/default.py."
    with pytest.raises(UserError, match=r"lacks study\.data\.batch_size: start from study\.py\."):
        build(Run, config, name="study", start="study.py")


def test_an_unknown_field_is_named_with_the_nearest():
    message = refusal(make(data__batchsize=2))
    assert message.startswith(
        "Unknown field config.data.batchsize (did you mean batch_size?): config.data has batch_size"
    )
    assert message.endswith("flip_probability, image_resize, num_workers, source, source_size.")


def test_an_unknown_field_unlike_any_other_lists_those_there_are():
    assert refusal(make(qqq=2)).startswith("Unknown field config.qqq: config has data, domains,")
    assert "Unknown field config.data.'a b\\n': config.data" in refusal(make(**{"data__a b\n": 1}))


@pytest.mark.parametrize("value", [3, None, "text", [], [1], True])
def test_a_block_that_is_none_is_refused(value):
    message = refusal(make(data=value))
    assert message.startswith(f"config.data is {value!r}: expected a block with the fields source,")
    assert refusal(value).startswith(f"config is {value!r}: expected a block with the fields seed")


def test_a_block_for_a_value_is_refused_in_one_line():
    config = ml_collections.ConfigDict(make(seed={"a": 1, "b": 2}))
    assert refusal(config) == "config.seed is {'a': 1, 'b': 2}: expected a whole number."
    config = ml_collections.ConfigDict(make(files=[ml_collections.ConfigDict({"a": 1, "b": 2})]))
    assert refusal(config).startswith("config.files is [")


def test_fields_that_do_not_agree_are_refused_by_the_class():
    expected = "expected 2 numbers, one for each stage of config.model.depths."
    assert refusal(make(model__widths=[64])) == f"config.model.widths is [64]: {expected}"


def test_fields_are_checked_before_they_must_agree():
    assert refusal(make(model__widths=64)).endswith("a non-empty list of whole numbers.")


# Declarations ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Undeclared:
    forgotten: int = 1


@dataclasses.dataclass(frozen=True)
class OfAnotherType:
    field: dict[str, int] = setting({}.copy, "A type that settings do not have.")


@dataclasses.dataclass(frozen=True)
class Mixed:
    field: tuple[int, float] = setting((1, 1.0), "Items of two types.")


@dataclasses.dataclass(frozen=True)
class OfNumbers:
    field: Literal[1, 2] = setting(1, "A Literal of numbers.")


@dataclasses.dataclass(frozen=True)
class Unreadable:
    field: "Missing" = setting(1, "A name that is not imported.")  # noqa: F821


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Undeclared, "Undeclared.forgotten is not declared: write it as setting"),
        (OfAnotherType, r"OfAnotherType.field is dict\[str, int\]: settings have no such type"),
        (Mixed, r"Mixed.field is tuple\[int, float\]: settings have no such type"),
        (OfNumbers, "OfNumbers.field is .*Literal.*: settings have no such type"),
        (Unreadable, "annotations of .*Unreadable cannot be read: name 'Missing' is not defined"),
        (dict, "builtins.dict is no dataclass"),
    ],
)
def test_a_wrong_declaration_is_one_sentence(cls, message):
    with pytest.raises(UserError, match=message):
        schema.get_fields(cls)


def test_a_fact_that_settings_do_not_have_is_refused_at_import():
    with pytest.raises(TypeError, match="at_leat"):
        setting(1, "A typing mistake.", at_leat=1)


def test_an_inherited_field_is_a_field():
    @dataclasses.dataclass(frozen=True)
    class Child(Evaluation):
        more: int = setting(3, "One more.")

    assert list(schema.get_fields(Child)) == ["every_steps", "scales", "split", "more"]
    assert build(Child, to_config(Child(more=4))).more == 4


# Documentation and marks -------------------------------------------------------------------------


def test_every_field_is_described():
    rows = {row.name: row for row in describe(Run)}
    assert list(rows) == sorted(rows, key=[*rows].index)
    assert {name.removeprefix("config.") for name in rows} == set(flatten(to_config(Run())))
    assert rows["config.data.batch_size"] == (
        "config.data.batch_size", "a whole number", 1, "at least 1",
        "Images of each domain in a step.",
    )  # fmt: skip
    assert rows["config.momentum"].accepted == "at least 0 and below 1"
    assert rows["config.data.image_resize"][1:4] == (
        "a text", "bicubic", "one of bicubic, bilinear",
    )  # fmt: skip
    assert rows["config.data.source_size"].type == "(height, width) in pixels, both at least 1"
    assert rows["config.model.depths"].type == "a non-empty list of whole numbers"
    assert rows["config.temperature"].accepted == ""
    assert rows["config.domains"].accepted.startswith("a selection of source and target")
    assert next(iter(describe(Data, "data"))).name == "data.source"


def test_marks_are_of_the_field_or_of_its_block():
    assert list_fields(Run(), operational=True) == [
        "data.num_workers", "evaluation.every_steps", "evaluation.scales",
    ]  # fmt: skip
    assert list_fields(Run(), of_weights=False) == ["model.kernel_init", "model.scan"]
    assert set(list_fields(Run())) == set(flatten(to_config(Run())))
    assert set(list_fields(Run(), operational=False)) == set(list_fields(Run())) - set(
        list_fields(Run(), operational=True)
    )
    assert list_fields(Run(), operational=True, of_weights=False) == []


def test_schema_imports_no_other_part_of_the_program():
    for path in pathlib.Path(schema.__file__).parent.glob("*.py"):
        lines = path.read_text().splitlines()
        imports = [line for line in lines if line.startswith(("import alp_jax", "from alp_jax"))]
        assert all("alp_jax.errors" in i or "alp_jax.settings" in i for i in imports), path
