"""Rules for the names of classes, in label sets, label maps and datasets."""

import difflib
import re
from collections.abc import Iterable

IGNORE = "ignore"  # Means no class in label maps, so no class has this name.
NAME_RULE = (
    "letters, digits, spaces and any of - _ . , & ' + / ( ), beginning with a letter or digit"
)
_NAME = re.compile(r"[^\W_][\w ,.()/&+'-]*(?<! )")


def is_class_name(value: object) -> bool:
    """Whether a value may be the name of a class (NAME_RULE)."""
    return isinstance(value, str) and value != IGNORE and _NAME.fullmatch(value) is not None


def find_near(name: str, names: Iterable[str], *, similarity: float = 0.75) -> str | None:
    """Finds the name that was perhaps meant: "traffic light" for Traffic_Light.

    Args:
      name: as it was written.
      names: to choose from.
      similarity: the least that counts as near, of 1; case, spaces, - and _ make no difference.
    """

    def simplify(text: str) -> str:
        return re.sub(r"[ _-]+", " ", text.casefold())

    simple = {simplify(other): other for other in names}
    close = difflib.get_close_matches(simplify(name), simple, n=1, cutoff=similarity)
    return simple[close[0]] if close else None
