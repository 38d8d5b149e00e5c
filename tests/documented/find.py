"""Finds commands in pages, in the strings of our code, and in files that commands have written.

Synopsis:

  for command in find_in_pages():
      print(command.place, command.text)
"""

import ast
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.commands import ROOT

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_PROGRAM = re.compile(
    r"(?:[A-Z_]+=\S+ )*"
    r"(?:\S*python3?|pip|make|git|tensorboard|taskset|uv|sha256sum|cp|mkdir)(?= |$)"
)
# Of our own modules, wherever it stands in a text.
_OURS = re.compile(
    r"(?<![\w/])python3? -m (?:alp_jax|data_prep|benchmarks|tests)(?:\.\w+)*"
    r"(?:[ \n]+--?[A-Za-z][\w.]*(?:=(?:'[^']*'|[^\s`'\")]*))?)*"
)
_IS_ANY = re.compile(r" -m \w+\.(X|NAME)")  # A text about any of the commands.

_FILE_NAME = re.compile(r"`(\w+\.(?:py|yaml))`")


class Command(NamedTuple):
    """A command.

    Attributes:
      place: file where it stands.
      text: of one line.
    """

    place: str
    text: str


def list_pages() -> list[pathlib.Path]:
    """Lists the pages that users read, in the order in which they meet them."""
    first = [ROOT / "README.md", ROOT / "docs" / "index.md", ROOT / "docs" / "own_data.md"]
    others = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "data_prep").glob("*.md"))]
    return list(dict.fromkeys([*first, *others, ROOT / "CONTRIBUTING.md"]))


def find_in_pages() -> list[Command]:
    """Finds all commands of the pages: lines of their blocks, and those inside sentences."""
    return [found for page in list_pages() for found in find_in_page(page)]


def find_in_page(page: pathlib.Path, *, inline: bool = True) -> Iterator[Command]:
    """Finds the commands of a page.

    Args:
      page: Markdown.
      inline: whether also those inside sentences.
    Raises:
      AssertionError: if a block without a language has a line that is no command.
    """
    text, place = page.read_text(), str(page.relative_to(ROOT))
    for language, block in _FENCE.findall(text):
        if language:
            continue
        for line in _join_lines(block).splitlines():
            assert _PROGRAM.match(line), (
                f"{place}: is {line!r} a command? An output stands in ```text."
            )
            yield Command(place, line)
    for code in _INLINE.findall(_FENCE.sub("", text)) if inline else ():
        one_line = " ".join(code.split())
        if _PROGRAM.match(one_line) and " " in one_line:
            yield Command(place, one_line)


def find_files(page: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yields (name, text) of the whole files that a page shows, named in the sentence before."""
    text = page.read_text()
    names: list[str] = []
    end = 0
    for fence in _FENCE.finditer(text):
        between = text[end : fence.start()].strip()
        if between:
            sentence = re.split(r"(?<=[.)])\s", between.rpartition("\n\n")[2])[-1]
            names = _FILE_NAME.findall(sentence) if sentence.endswith(":") else []
        end = fence.end()
        ending = {"python": ".py", "yaml": ".yaml"}.get(fence[1])
        named = [name for name in names if ending and name.endswith(ending)]
        is_whole = ending != ".py" or re.search(r"^(def|class) ", fence[2], re.MULTILINE)
        if named and is_whole:
            names.remove(named[0])
            yield named[0], fence[2]


def find_in_code() -> list[Command]:
    """Finds the commands in docstrings, help texts, messages and notebooks; X is filled in."""
    found: list[Command] = []
    for folder in ("alp_jax", "configs", "data_prep", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for text in _list_texts(ast.parse(path.read_text())):
                found += find_in_text(text, str(path.relative_to(ROOT)))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        found += find_in_text(path.read_text(), str(path.relative_to(ROOT)))
    return found


def find_in_text(text: str, place: str) -> list[Command]:
    """Finds the commands of our own modules in any text."""
    matches = [match for match in _OURS.findall(_join_lines(text)) if not _IS_ANY.search(match)]
    return [Command(place, " ".join(match.rstrip(".,;:").split())) for match in matches]


def find_in_makefile() -> list[Command]:
    """Finds the commands of the Makefile's recipes, variables filled in."""
    text = _join_lines((ROOT / "Makefile").read_text())
    variables = dict(re.findall(r"^(\w+) [:?]?= (.*)$", text, re.MULTILINE))
    while "$(" in text:
        filled = re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], text)
        assert filled != text
        text = filled
    lines = [line.strip() for line in text.splitlines() if line.startswith("\t")]
    return [Command("Makefile", line) for line in lines if re.match(r"\S+/python -m", line)]


def _join_lines(text: str) -> str:
    return re.sub(r" *\\\\?\n\s*", " ", text)


def _list_texts(tree: ast.AST) -> Iterator[str]:
    inside = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = []
            for part in node.values:
                inside.add(part)
                parts.append(part.value if isinstance(part, ast.Constant) else "X")
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield node.value
