"""The exceptions that are meant for the person at the keyboard."""

import os
import re


class UserError(ValueError):
    """Wrong input. The message is one sentence: what was given, what is expected, what to do.

    The command line prints the message without a traceback and exits with status 2. Anything else
    that escapes is a bug of ours and keeps its traceback.
    """


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGINT ended the work in order; the message says what the same command does.

    The command line prints the message and exits with status 75. As a KeyboardInterrupt it passes
    through whatever handles errors.
    """


def describe(error: BaseException) -> str:
    """Says in a few words what a library complains of: the system's reason, or the first line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # TensorStore names every file on the way before the reason.
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code:
        return os.strerror(int(code[1]))
    # The AttributeError of a ConfigDict holds a KeyError, whose own text is in quotes.
    inner = error.args[0] if error.args else None
    text = inner.args[0] if isinstance(inner, KeyError) and inner.args else error
    message = str(text).strip().splitlines()
    return f"{type(error).__name__}: {message[0][:200]}" if message else type(error).__name__
