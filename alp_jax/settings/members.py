"""Reads the members of a method that is an ensemble: others' networks, averaged at evaluation.

Synopsis:

  members = read_members(module)     # {"advent": 0.5, "minent_er": 0.5}; None: a method to train

The file of such a method has MEMBERS in the place of `apply`: method -> its weight in the mean of
the predicted probabilities. The weights are above 0; only their ratios count.
"""

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from alp_jax.errors import UserError
from alp_jax.settings.kinds import FileError

_ATTRIBUTE = "MEMBERS"
_EXPECTED = (
    "at least two methods, each with its weight, a number above 0, such as "
    '{"advent": 0.5, "minent_er": 0.5}'
)


class EnsembleError(UserError):
    """Refusal to configure a training of an ensemble, which has none.

    Attributes:
      method: name of the ensemble, or path of its file.
      members: method -> weight, as the file gives them.
    """

    def __init__(self, method: str, members: Mapping[str, float]):
        first, *others = members
        runs = ",".join(f"RUN_OF_{other.upper()}" for other in others)
        weights = ",".join(f"{weight:g}" for weight in members.values())
        super().__init__(
            f"{method} is an ensemble of {', '.join(members)}, which is evaluated and not trained: "
            f"give --methods={method} to python -m alp_jax.study, which trains the members and "
            "averages them; or train each by itself, and give --mode=evaluate "
            f"--workdir=RUN_OF_{first.upper()} --ensemble={runs} --ensemble_weights={weights}."
        )
        self.method, self.members = method, dict(members)


def read_members(module: ModuleType) -> dict[str, float] | None:
    """Reads the members that the file of a method declares; None if it declares none.

    Raises:
      FileError: if they are no methods with weights above 0, fewer than two, or stand beside a
        function `apply`.
    """
    found = getattr(module, _ATTRIBUTE, None)
    if found is None:
        return None
    file = module.__file__
    if not isinstance(found, Mapping) or len(found) < 2 or not all(map(_is_member, found.items())):
        raise FileError(f"{_ATTRIBUTE} of {file} is {found!r}: expected {_EXPECTED}.")
    if hasattr(module, "apply"):
        raise FileError(
            f"{file} has both {_ATTRIBUTE} and a function apply: expected {_ATTRIBUTE} for an "
            "ensemble of other methods, or apply for a method that is trained."
        )
    return {method: float(weight) for method, weight in found.items()}


def _is_member(item: tuple[Any, Any]) -> bool:
    method, weight = item
    return (
        isinstance(method, str)
        and isinstance(weight, int | float)
        and not isinstance(weight, bool)
        and 0 < weight < math.inf
    )
