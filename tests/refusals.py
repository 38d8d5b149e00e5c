"""What a call is refused with."""

from collections.abc import Callable

from alp_jax.errors import UserError


def refusal(call: Callable[[], object]) -> str | None:
    """Returns what a call is refused with, which is one line; None if it is not refused.

    Other errors pass.
    """
    try:
        call()
    except UserError as error:
        message = str(error)
    else:
        return None
    assert len(message.splitlines()) == 1, message
    return message
