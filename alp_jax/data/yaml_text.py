"""Parses YAML that people write, strictly: text means what it says, or it is refused.

Synopsis:

  content = parse_yaml(decode_text(path.read_bytes()))    # or ValueError, one line with its number

YAML 1.1, which the parser follows, reads 010 as 8, 1:30 as 90 and yes as true, keeps the last of
two equal keys, and fills in what other lines hold (`<<`, anchors). Here each of these is an error.
"""

import codecs
import re
from collections.abc import Hashable
from typing import Any, NoReturn

import yaml  # type: ignore[import-untyped]

_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # Before UTF-16, whose mark it begins with.
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# Type of plain text for the parser -> what is written so everywhere.
_CLEAR = {
    "int": re.compile(r"-?(0|[1-9][0-9]*)"),
    "float": re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+"),
    "bool": re.compile("true|True|TRUE|false|False|FALSE"),
    "null": re.compile("null|Null|NULL|~|"),
}
# Text for this parser, numbers for others (YAML 1.2): 1e3, 0o10.
_NUMBER_ELSEWHERE = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+|0o[0-7]+")


def decode_text(data: bytes) -> str:
    """Decodes a text file: UTF-8, with or without a byte order mark.

    Raises:
      ValueError: if it has another encoding; the message is one line.
    """
    for mark, encoding in _ENCODINGS.items():
        if data.startswith(mark):
            raise ValueError(f"it is {encoding}, but UTF-8 is read: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"line {line}: byte 0x{data[error.start]:02x} is not UTF-8, perhaps Latin-1: save it "
            "as UTF-8"
        ) from error


def parse_yaml(text: str) -> Any:
    """Parses YAML without running code.

    Raises:
      ValueError: if the text is faulty, or means something else than it says (see above); the
        message is one line, and names the line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f"line {mark.line + 1}: "
        parts = [part for part in (error.context, error.problem) if part]
        raise ValueError(where + " ".join(", ".join(parts).split())) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ValueError(f"line {line}: the character {error.character!r} is not text") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def format_yaml(content: Any) -> str:
    """Formats content so that `parse_yaml` reads the same content."""
    text: str = yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Puts text that other programs read as a number in quotes, and writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER_ELSEWHERE, None)


class _Loader(yaml.SafeLoader):
    """Refuses what YAML's own loader would read as something else, silently."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            _refuse(event.start_mark, "anchors (&) and aliases (*) are not read: write it out")
        if getattr(event, "tag", None) is not None:
            _refuse(event.start_mark, f"tags such as {event.tag} are not read: leave it out")
        return super().compose_node(parent, index)

    def compose_scalar_node(self, anchor: Any) -> Any:
        node = super().compose_scalar_node(anchor)
        if node.style is None:
            _check_plain(node)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[Any, Any] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # construct_mapping below refuses it.
            # "1" is the same text as 1; true and 1.0 are equal to 1 in a dict of Python.
            for form in (str(key), key):
                if form in first:
                    other = first[form]
                    same = type(key) is type(other) and key == other
                    problem = (
                        f"the key {key!r} is there twice"
                        if same
                        else f"{_show(key)} and {_show(other)} are one key"
                    )
                    _refuse(key_node.start_mark, problem)
            first |= {str(key): key, key: key}
        content: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return content


def _check_plain(node: yaml.ScalarNode) -> None:
    """Refuses text without quotes that readers understand in different ways."""
    kind, text = node.tag.rpartition(":")[2], node.value
    if kind == "str":
        if _NUMBER_ELSEWHERE.fullmatch(text):
            _refuse(node.start_mark, f"{text} is a number for some programs: put it in quotes")
    elif kind not in _CLEAR:  # A merge, a date, a value key.
        _refuse(node.start_mark, f"{text} is no text for YAML but a {kind}: put it in quotes")
    elif not _CLEAR[kind].fullmatch(text):
        value = str(yaml.safe_load(text)).lower()
        remedy = (
            "put it in quotes"
            if kind == "bool"
            else f"write {value} if that is meant, or put a text in quotes"
        )
        _refuse(node.start_mark, f"YAML reads {text} as {value}: {remedy}")


def _show(key: Any) -> str:
    """Shows a key as YAML writes it."""
    return str(key).lower() if isinstance(key, bool) else repr(key)


def _refuse(mark: Any, problem: str) -> NoReturn:
    raise yaml.constructor.ConstructorError(None, None, problem, mark)
