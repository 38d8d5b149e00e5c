"""Parses JSON strictly: a key that is written twice, or a number such as NaN, is an error."""

import json
import re
from typing import Any

_KEY = re.compile(r'"(?:[^"\\]|\\.)*"(?=\s*:)')


def parse_json(text: str) -> Any:
    """Parses JSON.

    Raises:
        ValueError: if the text is faulty; the message is one line, and names the line.
    """

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise ValueError(f"{_find_second(text, key)}the key {key!r} is there twice")
            content[key] = value
        return content

    try:
        return json.loads(text, object_pairs_hook=collect, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def _find_second(text: str, key: str) -> str:
    """Returns "line N: " of the second place where a key is written."""
    found = [match for match in _KEY.finditer(text) if json.loads(match[0], strict=False) == key]
    return f"line {text.count(chr(10), 0, found[1].start()) + 1}: " if len(found) > 1 else ""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
