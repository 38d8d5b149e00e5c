import dataclasses
import importlib
import itertools
import os
import pathlib
import pickle
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from alp_jax.errors import UserError
from alp_jax.settings import kinds
from alp_jax.settings.compare import list_fields
from alp_jax.settings.schema import block, blocks, build, describe, new_block, setting, to_config

HEAD = "import dataclasses\nfrom alp_jax.settings.schema import refuse, setting\n"
ALIGNMENT = """
    @dataclasses.dataclass(frozen=True)
    class Alignment:
        weight: float = setting(0.001, "Weight of the term.", at_least=0)
        patch: int = setting(32, "Side of a patch.", at_least=1, operational=True)
        name: str = ""

        def check(self, name):
            if self.patch > 100:
                refuse(f"{name}.patch", self.patch, "at most 100")

    TERM = Alignment
"""
ENTROPY = """
    @dataclasses.dataclass(frozen=True)
    class Entropy:
        share: float = setting(1.0, "Share of the pixels.", above=0, at_most=1)

    TERM = Entropy
"""
OWN = ENTROPY.replace("Entropy", "Own")
counter = itertools.count()


def write(path: pathlib.Path, text: str) -> pathlib.Path:
    path.write_text(HEAD + textwrap.dedent(text))
    return path


@pytest.fixture
def package(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with two kinds, in the working directory too."""
    name = f"kinds_of_test_{next(counter)}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "_private.py").write_text("")
    write(folder / "alignment.py", ALIGNMENT)
    write(folder / "entropy.py", ENTROPY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield name
    for module in [m for m in sys.modules if m.startswith((name, f"{kinds.__name__}."))]:
        del sys.modules[module]


def make_run(package: str) -> type:
    @dataclasses.dataclass(frozen=True)
    class Run:
        seed: int = setting(0, "Seed.")
        main: Any = block(package, "TERM", default_kind="entropy", sentence="The main term.")
        terms: dict[str, Any] = blocks(package, "TERM", "What is minimised.")

    return Run


def make_config(package: str, **terms: Any) -> dict[str, Any]:
    main = {"kind": "entropy", "share": 0.5}
    return {"seed": 0, "main": main, "terms": terms}


def refusal(package: str, config: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        build(make_run(package), config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Files -------------------------------------------------------------------------------------------


def test_the_kinds_are_the_files_of_the_package(package, tmp_path):
    assert kinds.names(package) == ["alignment", "entropy"]
    write(tmp_path / package / "added.py", OWN)
    importlib.invalidate_caches()
    assert kinds.names(package) == ["added", "alignment", "entropy"]
    assert kinds.load(package, "added", "TERM").__name__ == "Own"


def test_a_kind_is_imported_on_demand(package):
    assert f"{package}.alignment" not in sys.modules
    cls = kinds.load(package, "alignment", "TERM")
    assert cls.__name__ == "Alignment"
    assert cls is kinds.load(package, "alignment", "TERM")
    assert f"{package}.entropy" not in sys.modules
    assert kinds.get_kind(cls, package) == "alignment"


def test_a_kind_may_be_a_folder(package, tmp_path):
    folder = tmp_path / package / "large"
    folder.mkdir()
    write(folder / "term.py", OWN)
    (folder / "__init__.py").write_text(f"from {package}.large.term import Own\nTERM = Own\n")
    assert "large" in kinds.names(package)
    assert kinds.get_kind(kinds.load(package, "large", "TERM"), package) == "large"


@pytest.mark.parametrize(
    "kind",
    ["alignmnt", "", "_private", "__init__", "../x", "alignment.TERM", "a/b", 3, None, True, ["a"]],
)
def test_an_unknown_kind_lists_those_there_are(package, kind):
    with pytest.raises(UserError) as caught:
        kinds.load(package, kind, "TERM", name="config.main.kind")
    near = " (did you mean alignment?)" if "align" in str(kind) else ""
    assert str(caught.value) == (
        f"config.main.kind is {kind!r}{near}: expected one of alignment, entropy, or the path of a "
        ".py file of your own."
    )


@pytest.mark.parametrize("kind", ["mine.py", ".py", "/nowhere/mine.py", "a\0.py", "\ud800.py"])
def test_a_missing_file_is_one_sentence(package, kind):
    with pytest.raises(UserError, match=r"no such file; expected one of alignment, entropy, or"):
        kinds.load(package, kind, "TERM")


def test_a_folder_is_no_file(package, tmp_path):
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(UserError, match="no such file"):
        kinds.load(package, "folder.py", "TERM")


@pytest.mark.parametrize("where", ["mine.py", "package"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = missing\n", r"line 2 \(NameError: name 'missing' is not defined\): mend"),
        ("x = 1\n\ndef f(:\n", r"line 3 \(SyntaxError: invalid syntax"),
        ("import not_installed\n", r"line 1 \(ModuleNotFoundError: No module named"),
        ("raise ValueError('one\\ntwo')\n", r"line 1 \(ValueError: one\): mend that file\.$"),
        ("def f():\n    1 / 0\nf()\n", r"line 2 \(ZeroDivisionError"),
        ("x = 1\n", r"expected .*mine\.py to end with TERM = CLASS"),
        ("TERM = 3\n", r"expected .*mine\.py to end with TERM = CLASS"),
        ("from decimal import Decimal as TERM\n", r"a class defined in that file\.$"),
    ],
)
def test_a_broken_file_is_named_with_its_error(package, tmp_path, where, text, message):
    folder, kind = (tmp_path, "mine.py") if where == "mine.py" else (tmp_path / package, "mine")
    (folder / "mine.py").write_text(text)
    for _ in range(2):  # It fails again in the same way.
        with pytest.raises(UserError, match=message) as caught:
            kinds.load(package, kind, "TERM", name="config.main.kind")
        assert str(caught.value).startswith(f"config.main.kind is {kind!r}")
        assert str(folder / "mine.py") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_mended_file_can_be_imported(package, tmp_path):
    (tmp_path / "mine.py").write_text("x = missing\n")
    with pytest.raises(UserError):
        kinds.load(package, "mine.py", "TERM")
    write(tmp_path / "mine.py", OWN)
    assert kinds.load(package, "mine.py", "TERM").__name__ == "Own"


def test_a_users_file_is_imported_once_however_its_path_is_written(package, tmp_path):
    write(tmp_path / "mine.py", OWN)
    (tmp_path / "link.py").symlink_to(tmp_path / "mine.py")
    paths = ["mine.py", "./mine.py", f"{package}/../mine.py", str(tmp_path / "mine.py"), "link.py"]
    assert len({kinds.load(package, path, "TERM") for path in paths}) == 1
    assert len([m for m in sys.modules if m.startswith(f"{kinds.__name__}.")]) == 1


def test_users_files_of_the_same_name_are_different_modules(package, tmp_path):
    for name in ("a", "b.c"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "mine.py", OWN.replace("1.0", "1.0" if name == "a" else "0.5"))
    first, second = (kinds.load(package, f"{n}/mine.py", "TERM")() for n in ("a", "b.c"))
    assert (first.share, second.share) == (1.0, 0.5)


@pytest.mark.parametrize("name", ["mine.py", "with space.py", "zwölf%2E.py", "a.b.py", "ü/1.py"])
def test_objects_of_a_users_file_can_be_pickled_to_another_process(package, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    write(tmp_path / name, OWN)
    cls = kinds.load(package, name, "TERM")
    assert pickle.loads(pickle.dumps(cls(share=0.5))) == cls(share=0.5)
    assert kinds.get_kind(cls, package) == name
    pickled = pickle.dumps((cls, cls(share=0.5)))
    del sys.modules[cls.__module__]  # As in another process, with another working directory.
    os.chdir(tmp_path / package)
    other, instance = pickle.loads(pickled)
    assert other is not cls
    assert isinstance(instance, other)
    assert instance.share == 0.5
    assert kinds.get_kind(other, package) == str(tmp_path / name)


def test_a_class_of_no_file_has_no_kind(package):
    with pytest.raises(UserError, match=r"is defined in .*test_kinds: expected a file of kinds_of"):
        kinds.get_kind(make_run(package), package)


# Blocks ------------------------------------------------------------------------------------------


def test_a_block_has_the_class_of_its_kind(package):
    Run = make_run(package)
    terms = {"source": {"kind": "entropy", "share": 1}, "adversarial": {"kind": "alignment"}}
    terms["adversarial"] |= {"weight": 1, "patch": 16}
    built = build(Run, make_config(package, **terms))
    assert type(built.main).__name__ == "Entropy"
    assert built.main.share == 0.5
    assert list(built.terms) == ["adversarial", "source"], "in alphabetical order, as in ConfigDict"
    adversarial = built.terms["adversarial"]
    assert (type(adversarial).__name__, adversarial.weight) == ("Alignment", 1.0)
    assert adversarial.name == "adversarial"


def test_a_configuration_has_the_kind_of_each_block(package):
    Run = make_run(package)
    assert to_config(Run()).to_dict() == make_config(package) | {
        "main": {"kind": "entropy", "share": 1.0}
    }
    Alignment = kinds.load(package, "alignment", "TERM")
    config = to_config(Run(main=Alignment(), terms={"b": Alignment(patch=8, name="b")}))
    assert config.main.to_dict() == {"kind": "alignment", "weight": 0.001, "patch": 32}
    assert config.terms.b.to_dict() == {"kind": "alignment", "weight": 0.001, "patch": 8}
    built = build(Run, config)
    assert built == Run(main=Alignment(), terms={"b": Alignment(patch=8, name="b")})
    assert to_config(built) == config


def test_a_configuration_file_adds_a_block(package, tmp_path):
    write(tmp_path / "mine.py", OWN)
    config = to_config(make_run(package)()).lock()
    with config.unlocked():
        config.terms.a = new_block(package, "TERM", "alignment", patch=8)
        config.terms.own = new_block(package, "TERM", "mine.py")
        config.main = new_block(package, "TERM", "alignment")
    assert config.terms.a.is_locked
    built = build(make_run(package), config)
    assert (built.terms["a"].patch, built.terms["own"].share) == (8, 1.0)
    assert type(built.main).__name__ == "Alignment"
    assert to_config(built).to_dict() == config.to_dict()


TERM_WORDS = "expected one of alignment, entropy, or the path of a .py file of your own."


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"share": 1.0}, f"The configuration lacks config.terms.t.kind: {TERM_WORDS}"),
        ({}, f"The configuration lacks config.terms.t.kind: {TERM_WORDS}"),
        (
            {"kind": "entrpy"},
            f"config.terms.t.kind is 'entrpy' (did you mean entropy?): {TERM_WORDS}",
        ),
        ({"kind": None}, f"config.terms.t.kind is None: {TERM_WORDS}"),
        ({"kind": {"a": 1}}, f"config.terms.t.kind is {{'a': 1}}: {TERM_WORDS}"),
        (3, "config.terms.t is 3: expected a block of fields, one of them its kind."),
        ([], "config.terms.t is []: expected a block of fields, one of them its kind."),
        (None, "config.terms.t is None: expected a block of fields, one of them its kind."),
        (
            {"kind": "entropy"},
            "The configuration lacks config.terms.t.share: the kind 'entropy' has that field; "
            "where a kind changes, replace the whole block (docs/own_parts.md).",
        ),
        (
            {"kind": "entropy", "share": 1.0, "shar": 2},
            "Unknown field config.terms.t.shar (did you mean share?): config.terms.t, of the kind "
            "'entropy', has share.",
        ),
        (
            {"kind": "entropy", "share": 0},
            "config.terms.t.share is 0: expected above 0 and at most 1.",
        ),
        (
            {"kind": "alignment", "weight": 1, "patch": 101},
            "config.terms.t.patch is 101: expected at most 100.",
        ),
        (
            {"kind": "alignment", "weight": 1, "patch": 1, "name": "t"},
            "Unknown field config.terms.t.name: config.terms.t, of the kind 'alignment', has "
            "patch, weight; where a kind changes, replace the whole block (docs/own_parts.md).",
        ),
    ],
)
def test_a_wrong_block_is_one_sentence(package, term, message):
    assert refusal(package, make_config(package, t=term)) == message


@pytest.mark.parametrize("value", [3, None, [], "text"])
def test_blocks_that_are_none_are_refused(package, value):
    message = refusal(package, make_config(package) | {"terms": value})
    assert message == f"config.terms is {value!r}: expected blocks by name, each with a kind."
    message = refusal(package, make_config(package) | {"main": value})
    expected = "expected a block of fields, one of them its kind."
    assert message == f"config.main is {value!r}: {expected}"


@pytest.mark.parametrize("name", ["a-b", "a b", "", "1", "a.b", "lambda", "items", "lock", 1, None])
def test_a_name_that_no_flag_reaches_is_refused(package, name):
    config = make_config(package)
    config["terms"] = {name: {"kind": "entropy", "share": 1.0}}
    assert refusal(package, config) == (
        f"The name of a block in config.terms is {name!r}: expected letters, digits and _, and no "
        "word that Python or ConfigDict reserves."
    )


def test_a_users_class_that_is_no_dataclass_is_one_sentence(package, tmp_path):
    (tmp_path / "mine.py").write_text("class Mine:\n    pass\n\nTERM = Mine\n")
    message = refusal(package, make_config(package, t={"kind": "mine.py"}))
    assert message.endswith("Mine is no dataclass: declare settings in a frozen dataclass.")


def test_a_class_without_a_method_of_its_base_is_one_sentence(package, tmp_path):
    text = "import abc\nclass Mine(abc.ABC):\n    @abc.abstractmethod\n    def loss(self): ...\n"
    (tmp_path / "mine.py").write_text(text + "TERM = Mine\n")
    message = refusal(package, make_config(package, t={"kind": "mine.py"}))
    assert message.startswith("config.terms.t.kind is 'mine.py', and Mine in /")
    assert message.endswith("mine.py lacks loss: write what its base class asks for.")


def test_blocks_may_be_in_the_default(package):
    @dataclasses.dataclass(frozen=True)
    class Run:
        terms: dict[str, Any] = blocks(
            package, "TERM", "The terms.", default_kinds={"b": "entropy", "a": "alignment"}
        )

    assert list(Run().terms) == ["a", "b"]
    assert Run().terms["a"].name == "a"
    config = to_config(Run())
    assert config.terms.b.to_dict() == {"kind": "entropy", "share": 1.0}
    assert build(Run, config) == Run()
    assert [(row.name, row.default) for row in describe(Run)] == [
        ("config.terms", ("a", "b")),
        ("config.terms.a.kind", "alignment"),
        ("config.terms.a.weight", 0.001),
        ("config.terms.a.patch", 32),
        ("config.terms.b.kind", "entropy"),
        ("config.terms.b.share", 1.0),
    ]
    assert all(row.sentence for row in describe(Run))


def test_the_default_kind_is_described(package):
    rows = {row.name: row for row in describe(make_run(package))}
    assert list(rows) == ["config.seed", "config.main.kind", "config.main.share", "config.terms"]
    assert rows["config.main.kind"][1:] == (
        "a text",
        "entropy",
        "one of alignment, entropy, or the path of a .py file of your own",
        "The main term.",
    )
    assert rows["config.terms"].type == "blocks by name"
    assert rows["config.terms"].accepted.startswith("one of alignment, entropy")
    kind = kinds.load(package, "alignment", "TERM")
    assert [row.name for row in describe(kind, "config.terms.NAME")] == [
        "config.terms.NAME.weight", "config.terms.NAME.patch",
    ]  # fmt: skip


def test_marks_reach_into_blocks(package):
    Alignment = kinds.load(package, "alignment", "TERM")
    run = make_run(package)(main=Alignment(), terms={"a": Alignment()})
    assert list_fields(run, operational=True) == ["main.patch", "terms.a.patch"]
    assert "terms.a.kind" in list_fields(run, operational=False)

    @dataclasses.dataclass(frozen=True)
    class Operational:
        OPERATIONAL: ClassVar[bool] = True

        terms: dict[str, Any] = blocks(package, "TERM", "Terms.", of_weights=False)
        main: Any = block(package, "TERM", "Main.", default_kind="entropy", operational=False)

    run = Operational(terms={"a": Alignment()})
    assert list_fields(run, operational=True) == ["terms.a.kind", "terms.a.weight", "terms.a.patch"]
    assert list_fields(run, of_weights=False) == list_fields(run, operational=True)
    assert list_fields(run, operational=False) == ["main.kind", "main.share"]
