"""Exceptions whose messages are written for the user, and parts of such messages."""

import difflib
import os
import re
from collections.abc import Iterable, Sequence


class UserError(ValueError):
    """Wrong input. The message is one sentence: what was given, what is expected, what to do.

    The command line prints the message without a traceback and exits with status 2. Any other
    uncaught exception is a bug of ours and keeps its traceback.
    """


class Diverged(UserError):
    """Training whose losses are no longer finite."""


class Stopped(KeyboardInterrupt):
    """Orderly end after SIGTERM or SIGINT; the message says how to continue.

    The command line prints the message and exits with status 75. It is a KeyboardInterrupt, so
    `except Exception` does not catch it.
    """


def describe(error: BaseException) -> str:
    """Summarises a library's error: the operating system's reason, or the message's first line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # TensorStore's message lists file names before the reason.
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:
        return os.strerror(int(code[1]))
    # The AttributeError of a ConfigDict holds a KeyError, whose own text is in quotes.
    inner = error.args[0] if error.args else None
    text = inner.args[0] if isinstance(inner, KeyError) and inner.args else error
    message = str(text).strip().splitlines()
    return f"{type(error).__name__}: {message[0][:200]}" if message else type(error).__name__


def describe_near(given: str, known: Iterable[str]) -> str:
    """Returns " (did you mean NAME?)" for a name that is nearly one of the known; "" without.

    Upper and lower case are alike.
    """
    folded = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(given.casefold(), folded, n=1)
    return f" (did you mean {folded[close[0]]}?)" if close else ""


def shorten(texts: Sequence[str], limit: int = 5) -> str:
    """Joins the first `limit` texts for a message, and says how many more there are."""
    more = f" and {len(texts) - limit:,} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def printable(name: str) -> str:
    r"""Escapes what a terminal cannot show, so that a file name stays on one line of a message.

    A byte that is not UTF-8 becomes \xff, a control character \n or \u001b, a backslash two. So
    different names stay different.
    """
    return "".join(_escape(character) for character in name)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # A byte, as os.fsdecode has it (surrogateescape).
        return f"\\x{code - 0xDC00:02x}"
    if character in "\\\n\r\t":
        return character.encode("unicode_escape").decode()
    if character.isprintable():
        return character
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
