"""Parses YAML that people write."""

from collections.abc import Hashable
from typing import Any

import yaml  # type: ignore[import-untyped]


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice; YAML's own loader keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # construct_mapping below refuses it.
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        content: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return content


def parse_yaml(text: str) -> Any:
    """Parses YAML without running code; a key that is written twice is an error.

    Raises:
      ValueError: if the text is faulty; the message is one line.
    """
    try:
        return yaml.load(text, _Loader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(" ".join(str(error).split())) from error
