"""Boundaries between the packages of alp_jax, read from the source of its files."""

import ast
import functools
import itertools
import pathlib
import pkgutil
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# From the ground up: a package imports from floors below its own only.
FLOORS = (
    ("errors",),
    ("settings",),
    ("devices", "command"),
    ("data", "models"),
    ("self_training",),
    ("objective",),
    ("workdir",),
    ("evaluation",),
    ("run",),
    ("report", "export", "domain_shift"),
    ("study",),
    ("main",),
)
FLOOR_OF = {package: floor for floor, row in enumerate(FLOORS) for package in row}
OURS = ("alp_jax", "configs", "data_prep", "benchmarks")
# Folders with one file for each kind, which know nothing of each other.
KINDS = (
    "alp_jax/objective/views",
    "alp_jax/objective/teachers",
    "alp_jax/objective/terms",
    "alp_jax/objective/placements",
    "alp_jax/models/backbones",
    "alp_jax/models/decoders",
    "configs/methods",
    "configs/additions",
)


class Import(NamedTuple):
    """An import in a file.

    Attributes:
      path: of the file, relative to the root.
      line: in it.
      module: that is imported, or imported from.
      name: that is taken from the module; empty: the module itself.
    """

    path: pathlib.Path
    line: int
    module: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.module} {self.name}".rstrip()


@functools.cache
def parse(path: pathlib.Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def list_files(*folders: str) -> list[pathlib.Path]:
    """Lists the Python files in folders, relative to the root."""
    found = itertools.chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders)
    return sorted(path.relative_to(ROOT) for path in found)


def list_imports(path: pathlib.Path) -> Iterator[Import]:
    """Lists all imports of a file: at its top, in functions and for the type checker."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the whole name of the module"
            for alias in node.names:
                yield Import(path, node.lineno, node.module or "", alias.name)


def imports_of(*folders: str) -> list[Import]:
    return [found for path in list_files(*folders) for found in list_imports(path)]


def is_inside(found: Import, *modules: str) -> bool:
    """Whether something of these modules is imported."""
    names = {f"{found.module}.", f"{found.module}.{found.name}."}
    return any(name.startswith(f"{module}.") for module in modules for name in names)


def show(found: list[Import]) -> str:
    return "\n".join(map(str, found))


def package_of(path: pathlib.Path) -> str:
    """alp_jax/data/labels.py is of the package data, alp_jax/errors.py of errors."""
    return path.with_suffix("").parts[1]


def test_every_package_has_a_floor():
    here = {module.name for module in pkgutil.iter_modules([str(ROOT / "alp_jax")])}
    assert here == FLOOR_OF.keys()


def test_imports_go_down():
    wrong = []
    for found in imports_of("alp_jax"):
        package = package_of(found.path)
        full = f"{found.module}.{found.name}".split(".")
        if full[0] != "alp_jax" or package == "__init__" or full[1] not in FLOOR_OF:
            continue
        if full[1] != package and FLOOR_OF[full[1]] >= FLOOR_OF[package]:
            wrong.append(found)
    assert not wrong, show(wrong)


def test_networks_are_written_in_one_package():
    wrong = [
        found
        for found in imports_of("alp_jax", "configs")
        if is_inside(found, "flax.linen", "flax.nnx") and package_of(found.path) != "models"
    ]
    assert not wrong, show(wrong)


def test_tensorflow_is_not_imported():
    """It takes 1.3 GB, and its import seconds; clu's writers import it."""
    packages = ("alp_jax", "configs", "data_prep")
    found = [f for f in imports_of(*packages) if is_inside(f, "tensorflow", "clu.metric_writers")]
    assert not found, show(found)


def test_data_is_read_without_jax():
    wrong = [f for f in imports_of("alp_jax/data") if is_inside(f, "jax", "jaxlib", "flax")]
    assert not wrong, show(wrong)


def test_configurations_of_users_stop_above_the_packages_that_compute():
    folders = ("objective", "models", "data", "devices")
    wrong = [
        found
        for found in imports_of(*(f"alp_jax/{folder}" for folder in folders))
        if is_inside(found, "ml_collections")
    ]
    assert not wrong, show(wrong)


@pytest.mark.parametrize("folder", [folder for folder in KINDS if (ROOT / folder).is_dir()])
def test_a_kind_is_one_file(folder):
    package = folder.replace("/", ".")
    wrong = [found for found in imports_of(folder) if is_inside(found, package)]
    assert not wrong, show(wrong)


def test_the_package_imports_nothing_that_imports_it():
    outside = ("configs", "data_prep", "tests", "benchmarks", "docs_hooks")
    wrong = [found for found in imports_of("alp_jax") if is_inside(found, *outside)]
    assert not wrong, show(wrong)


def find_private_names(path: pathlib.Path) -> Iterator[str]:
    """Finds `module._name` and `from module import _name`, for modules of this repository."""
    modules = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            for alias in node.names:
                modules.add(alias.asname or alias.name)
                if re.match(r"_(?!_)", alias.name):
                    yield f"{path}:{node.lineno}: {node.module}.{alias.name}"
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            # A module has a name in small letters, a class has not.
            name = node.value.id
            if name in modules and name.islower() and re.match(r"_(?!_)", node.attr):
                yield f"{path}:{node.lineno}: {name}.{node.attr}"


def test_names_with_an_underscore_stay_in_their_module():
    files = list_files(*OURS)
    wrong = [line for path in files for line in find_private_names(path)]
    assert not wrong, "\n".join(wrong)


# What files of other folders bring, so that these packages need not know it.
WORDS = re.compile("discriminator_accuracy|resnet|cityscapes", re.IGNORECASE)
# File: why it has such a word nevertheless.
KNOWING: dict[str, str] = {}


def test_machinery_knows_no_method_network_or_dataset():
    found: dict[str, list[str]] = {}
    for path in list_files("alp_jax/objective", "alp_jax/evaluation"):
        if not path.is_relative_to("alp_jax/objective/terms"):
            for number, line in enumerate((ROOT / path).read_text().splitlines(), start=1):
                if WORDS.search(line):
                    found.setdefault(path.as_posix(), []).append(f"{path}:{number}: {line.strip()}")
    wrong = [line for path, lines in found.items() if path not in KNOWING for line in lines]
    assert not wrong, "\n".join(wrong)
    assert KNOWING.keys() <= found.keys(), "KNOWING lists files that know nothing of it any more"
