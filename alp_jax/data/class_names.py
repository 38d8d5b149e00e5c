"""Checks and compares class names, in label sets, label maps and datasets."""

import difflib
import re
from collections.abc import Iterable

IGNORE = "ignore"  # In label maps it stands for no class, so no class has this name.
NAME_RULE = (
    "letters, digits, spaces and any of - _ . , & ' + / ( ), beginning with a letter or digit"
)
_NAME = re.compile(r"[^\W_][\w ,.()/&+'-]*(?<! )")


def is_class_name(value: object) -> bool:
    """Returns whether a value may be the name of a class (NAME_RULE)."""
    return isinstance(value, str) and value != IGNORE and _NAME.fullmatch(value) is not None


def find_near(name: str, names: Iterable[str], *, similarity: float = 0.75) -> str | None:
    """Finds the name that was probably meant: "traffic light" for Traffic_Light.

    Args:
      name: the name as written.
      names: known names.
      similarity: lowest similarity that counts as near, 0 to 1; case is ignored, and spaces, - and
        _ are equal.
    """

    def simplify(text: str) -> str:
        return re.sub(r"[ _-]+", " ", text.casefold())

    simple = {simplify(other): other for other in names}
    close = difflib.get_close_matches(simplify(name), simple, n=1, cutoff=similarity)
    return simple[close[0]] if close else None
