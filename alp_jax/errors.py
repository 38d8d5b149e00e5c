"""The one exception that is meant for the person at the keyboard."""


class UserError(ValueError):
    """Wrong input. The message is one sentence: what was given, what is expected, what to do.

    The command line prints the message without a traceback and exits with status 2. Anything else
    that escapes is a bug of ours and keeps its traceback.
    """
