"""Generates parts of the documentation from the code: hooks of mkdocs.

A line of one of these forms in a page is replaced:

  {{ include data_prep/README.md }}       content of a file, with links to code as plain names
  {{ configuration }}                     tables of all fields, from their declarations
  {{ roofline docs/results/tpu }}         table of the JSON files of benchmarks.tpu in a folder

Formulas become MathML, which browsers render without scripts.
"""

import html
import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

import griffe
import latex2mathml.converter

ROOT = pathlib.Path(__file__).parent
_DIRECTIVE = re.compile(r"^\{\{ (\w+)(?: ([^ }]+))? \}\}$", re.MULTILINE)
_LINK_OUT = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")
_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.+?)\\[)\]]</(?P=tag)>', re.DOTALL
)
_ARGUMENTS = re.compile(r" +(\w+(?:, \w+)+): ")
_SECTION = re.compile(r"^( *(?:Args|Returns|Raises|Yields|Attributes):)$", re.MULTILINE)
_NUM_STEPS = 150_000  # Steps of a run of the paper.


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replaces the directives of a page."""
    makers: dict[str, Callable[..., str]] = {
        "include": include,
        "configuration": describe_configuration,
        "roofline": roofline,
    }

    def replace(match: re.Match[str]) -> str:
        return makers[match[1]](*filter(None, [match[2]]))

    return _DIRECTIVE.sub(replace, markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Converts formulas to MathML."""

    def replace(match: re.Match[str]) -> str:
        display = "block" if match["tag"] == "div" else "inline"
        return latex2mathml.converter.convert(html.unescape(match["latex"]), display=display)

    return _FORMULA.sub(replace, content)


def include(path: str) -> str:
    """Returns a Markdown file without its heading; links outside the pages become plain names."""
    text = (ROOT / path).read_text()
    return _LINK_OUT.sub(r"`\1`", text.split("\n", 1)[1])


def describe_configuration() -> str:
    """Returns a table for each block of the configuration of the paper's method."""
    from alp_jax.settings.schema import describe
    from alp_jax.workdir.settings import build_settings
    from configs import default

    parts: dict[str, list[str]] = {}
    for row in describe(build_settings(default.get_config())):
        part, _, field = row.name.rpartition(".")
        value = row.default
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        accepted = f" Expected: {row.accepted}." if row.accepted else ""
        line = f"| `{field}` | {f'`{shown}`' if shown else 'empty'} | {row.sentence}{accepted} |"
        parts.setdefault(part, []).append(line)
    head = "| field | default | meaning |\n| --- | --- | --- |\n"
    return "\n\n".join(f"## {part}\n\n{head}" + "\n".join(rows) for part, rows in parts.items())


def roofline(folder: str) -> str:
    """Returns a table of the results of `benchmarks.tpu`, with a lower bound of a run's hours.

    If the folder has no such results, returns the command that makes them.
    """
    lines = [
        "| chips | activations | temporaries, GB | moved, GB | of it memory, GB "
        f"| between chips, GB | roofline, s | {_NUM_STEPS:,} steps, h | compiled in, s |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    commands = []
    for path in sorted((ROOT / folder).glob("*.json")):
        result = json.loads(path.read_text())
        commands.append(result["command"])
        data, space = result["data"], result["space"]
        for row in result["rows"]:
            hours = row["roofline_seconds"] * _NUM_STEPS / 3600
            cells = [
                result["topology"] + (f" (data {data}, space {space})" if data * space > 1 else ""),
                row["variant"],
                f"{row['temporary_bytes'] / 1e9:.1f}",
                f"{row['bytes_moved'] / 1e9:.0f}",
                f"{row['bytes_of_memory'] / 1e9:.0f}",
                f"{row['bytes_exchanged'] / 1e9:.2f}",
                f"{row['roofline_seconds']:.3f}",
                f"{hours:.1f}",
                f"{row['compile_seconds']:.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    if not commands:
        return (
            "No measurement is in the repository; this makes one (a compilation, minutes):\n\n"
            f"```\npip install --no-deps --target=libtpu libtpu\nPYTHONPATH=libtpu python -m "
            f"benchmarks.tpu --topology=v5e:1x1 --output={folder}/v5e.json\n```\n\n"
            f"Hours of a run, at least: `roofline_seconds` x {_NUM_STEPS:,} / 3600."
        )
    return "\n".join(lines) + "\n\n```\n" + "\n".join(commands) + "\n```"


class HouseStyle(griffe.Extension):
    """Converts our docstrings to the form that the reference's parser accepts."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Changes a docstring before it is parsed."""
        if obj.docstring:
            change = fence if obj.is_module else separate_arguments
            changed = change(obj.docstring.value)
            obj.docstring.value = _SECTION.sub(r"\n\1", changed)  # An empty line before each.


def fence(docstring: str) -> str:
    """Puts code fences around the indented paragraphs of a module's docstring."""
    lines: list[str] = []
    inside = False
    for line in docstring.splitlines():
        indented = line.startswith("  ") and not line.lstrip().startswith("- ")
        if indented and not inside and (not lines or not lines[-1].strip()):
            lines.append("```")
            inside = True
        elif inside and line.strip() and not indented:
            while not lines[-1].strip():
                lines.pop()
            lines += ["```", ""]
            inside = False
        lines.append(line[2:] if inside else line)
    return "\n".join([*lines, *["```"] * inside])


def separate_arguments(docstring: str) -> str:
    """Repeats an entry "a, b: text" of a docstring for each of its arguments."""
    lines: list[str] = []
    entry: list[str] = []  # Lines of an entry for several arguments.
    names: list[str] = []

    def flush() -> None:
        lines.extend(
            line.replace(", ".join(names), name, 1) if i == 0 else line
            for name in names
            for i, line in enumerate(entry)
        )
        entry.clear()
        names.clear()

    for line in docstring.splitlines():
        indent = len(line) - len(line.lstrip())
        if entry and line.strip() and indent > len(entry[0]) - len(entry[0].lstrip()):
            entry.append(line)
            continue
        flush()
        if match := _ARGUMENTS.match(line):
            entry.append(line)
            names += match[1].split(", ")
        else:
            lines.append(line)
    flush()
    return "\n".join(lines)
