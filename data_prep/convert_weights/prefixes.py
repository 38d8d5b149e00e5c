"""Finds the network among the keys of a file: what stands before them, and what is not of it.

Synopsis:

  selection = select(path, shapes, holds_network, prefix=None, ignore=None)
  selection.prefix       # "module.backbone."
  selection.reasons      # {"queue": "left out by --prefix=encoder_q."}
"""

import dataclasses
import itertools
import pathlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping

from alp_jax.errors import UserError, shorten

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Selection:
    """The tensors of a file that may be of the network.

    Attributes:
      prefix: what stands before each of their keys.
      shapes: key without the prefix -> shape, in the file's order.
      reasons: whole key of every other tensor -> why it is left out.
    """

    prefix: str
    shapes: Shapes
    reasons: dict[str, str]


def select(
    path: pathlib.Path,
    shapes: Shapes,
    holds_network: Callable[[Shapes], bool],
    *,
    prefix: str | None,
    ignore: str | None,
) -> Selection:
    """Selects the tensors of the network.

    Args:
      path: the file, for messages.
      shapes: whole key -> shape of every tensor, in the file's order.
      holds_network: whether tensors, by key without prefix, hold a backbone.
      prefix: as --prefix; None: the only prefix behind which there is a backbone.
      ignore: as --ignore, a regular expression that matches whole keys to leave out; or None.
    Raises:
      UserError: if there are several networks and none is chosen, if tensors beside the network
        are not accounted for, or if an option matches nothing.
    """
    reasons = _ignore(path, shapes, ignore)
    behind = _group_by_prefix({key: s for key, s in shapes.items() if key not in reasons})
    networks = [start for start, found in behind.items() if holds_network(found)]
    if prefix is not None:
        chosen = prefix if not prefix or prefix.endswith(".") else f"{prefix}."
        if chosen not in behind:
            known = [start for start in networks or behind if start]
            remedy = f"expected one of {shorten(known, 6)}" if known else "leave --prefix out"
            raise UserError(f"--prefix is {prefix!r}, and no key in {path} begins so: {remedy}.")
    elif len(networks) > 1:
        raise UserError(
            f"{path} holds {len(networks)} networks, which differ in what stands before their "
            f"keys: say which with {' or '.join(f'--prefix={start}' for start in networks[:6])}, "
            "and the others are left out."
        )
    else:
        chosen = networks[0] if networks else find_common(behind[""])
    inner = tuple(n for n in networks if n != chosen and n.startswith(chosen))
    selected, outside = {}, []
    for key in behind[""]:
        if key.startswith(chosen) and not key.startswith(inner):
            selected[key.removeprefix(chosen)] = shapes[key]
        else:
            outside.append(key)
    if outside and prefix is None:
        raise UserError(
            f"{path} holds a network with the prefix {chosen} and {len(outside)} tensors without "
            f"it ({shorten(outside, 4)}): give --prefix={chosen} to leave these out, or --ignore "
            "with a regular expression of keys to leave out."
        )
    reasons |= dict.fromkeys(outside, f"left out by --prefix={chosen}")
    return Selection(chosen, selected, {key: reasons[key] for key in shapes if key in reasons})


def _ignore(path: pathlib.Path, keys: Iterable[str], pattern: str | None) -> dict[str, str]:
    """Finds the keys that --ignore matches."""
    if pattern is None:
        return {}
    try:
        matches = re.compile(pattern).fullmatch
    except re.error as error:
        raise UserError(
            f"--ignore is {pattern!r}, which is no regular expression ({error}): expected one that "
            r"matches whole keys, such as 'fc\..*'."
        ) from error
    found = {key: f"left out by --ignore={pattern}" for key in keys if matches(key)}
    if not found:
        raise UserError(
            f"--ignore is {pattern!r}, which matches none of the keys in {path} as a whole "
            f"({shorten(list(keys), 4)}): expected a regular expression such as 'fc\\..*'."
        )
    return found


def _group_by_prefix(shapes: Shapes) -> dict[str, dict[str, tuple[int, ...]]]:
    """Maps every possible prefix, "" first, to the tensors behind it, by the rest of their keys."""
    groups: dict[str, dict[str, tuple[int, ...]]] = {"": {}}
    for key, shape in shapes.items():
        ends = [0, *(match.end() for match in re.finditer(r"\.", key))]
        for end in ends:
            groups.setdefault(key[:end], {})[key[end:]] = shape
    return groups


def find_common(keys: Collection[str]) -> str:
    """Finds the longest prefix of all keys that ends with a dot, or is empty."""
    first, last = min(keys), max(keys)
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    common = "".join(character for character, _ in same)
    return common[: common.rfind(".") + 1]
