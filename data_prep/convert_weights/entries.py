"""Finds the state dict in what a training script saved: at the top, or in an entry.

Synopsis:

  entry = find_entry(path, content, is_tensor, None)     # ("model_state_dict",)
  tensors = take(content, entry)
"""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from alp_jax.errors import UserError, shorten

# Names of entries from the top of the file; empty: the file is the state dict itself.
Entry = tuple[str, ...]
IsTensor = Callable[[Any], bool]
_DEPTH = 4
# Entries that usually hold the state dict; only for the message about one that is none.
_USUAL = ("state_dict", "model")


def find_entry(path: pathlib.Path, content: Any, is_tensor: IsTensor, chosen: str | None) -> Entry:
    """Finds the only state dict of a file, or the chosen one.

    Args:
      path: the file, for messages.
      content: what it holds.
      is_tensor: whether a value is a tensor.
      chosen: names from the top with / between, as --entry; None: the only one.
    Raises:
      UserError: if there are several and none is chosen, or the chosen one is not there.
    """
    sizes = dict(_find_all(content, is_tensor, ()))
    listed = shorten([f"{show(entry)} ({count} tensors)" for entry, count in sizes.items()], 8)
    if chosen is not None:
        for entry in sizes:
            if entry and show(entry) == chosen:
                return entry
        holds = "is one state dict as a whole: leave --entry out"
        if () not in sizes:
            holds = f"holds {listed or 'no state dict'}: give one of these"
        raise UserError(f"--entry is {chosen!r}, but {path} {holds}.")
    if len(sizes) > 1:
        raise UserError(
            f"{path} holds several state dicts, {listed}: say which with "
            f"{' or '.join(f'--entry={show(entry)}' for entry in list(sizes)[:6])}."
        )
    if sizes:
        return next(iter(sizes))
    is_mapping = isinstance(content, Mapping)
    usual = (name for name in _USUAL if is_mapping and isinstance(content.get(name), Mapping))
    return tuple(list(usual)[:1])


def show(entry: Entry) -> str:
    """Writes an entry as --entry takes it."""
    return "/".join(entry)


def take(content: Any, entry: Entry) -> Any:
    """Takes an entry of a file."""
    for name in entry:
        content = content[name]
    return content


def list_others(content: Any, entry: Entry) -> tuple[str, ...]:
    """Lists the other entries, at each level above the one that is taken."""
    others: list[str] = []
    for depth, name in enumerate(entry):
        level = take(content, entry[:depth])
        others += [show((*entry[:depth], str(key))) for key in level if key != name]
    return tuple(others)


def _find_all(content: Any, is_tensor: IsTensor, entry: Entry) -> Iterator[tuple[Entry, int]]:
    """Yields (entry, number of tensors) of every state dict: tensors by name, and nothing else."""
    if not isinstance(content, Mapping) or len(entry) > _DEPTH:
        return
    is_state_dict = all(isinstance(k, str) and is_tensor(v) for k, v in content.items())
    # Optimizers keep vectors and counters by name, too.
    if is_state_dict and any(value.ndim > 1 for value in content.values()):
        yield entry, len(content)
        return
    for name, value in content.items():
        if isinstance(name, str):
            yield from _find_all(value, is_tensor, (*entry, name))
