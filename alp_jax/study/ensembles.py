"""Plans the ensembles of a study: methods that average others' predictions (settings/members.py).

Synopsis:

  find(config_path, ["advent", "a_plus_e"])     # {"a_plus_e": {"advent": 0.5, "minent_er": 0.5}}
  run = create("a_plus_e", [(advent_run, 0.5), (minent_er_run, 0.5)])
"""

from collections.abc import Iterable, Sequence

from alp_jax.command import configuration
from alp_jax.errors import UserError
from alp_jax.settings.compare import flatten
from alp_jax.settings.members import EnsembleError
from alp_jax.study.runs import Run

# Fields on which the scores of an ensemble depend as a whole.
_COMMON = (
    *("data.label_set", "data.target_size"),
    *(f"evaluation.{name}" for name in ("dataset", "split", "reported_split")),
)


def find(config_path: str, methods: Iterable[str]) -> dict[str, dict[str, float]]:
    """Finds the ensembles among methods: method -> its members, with their weights.

    Raises:
      UserError: for an unknown method, an addition to an ensemble, or if a member is an ensemble
        itself.
    """
    found = {method: _read(config_path, method) for method in methods}
    ensembles = {method: members for method, members in found.items() if members}
    for method, members in ensembles.items():
        for member in members:
            if _read(config_path, member):
                raise UserError(
                    f"{method} has the member {member}, which is an ensemble itself: expected "
                    "methods that are trained."
                )
    return ensembles


def _read(config_path: str, method: str) -> dict[str, float] | None:
    try:
        configuration.read_config(config_path, method, [])
    except EnsembleError as error:
        if error.method != method:
            raise UserError(
                f"{method} adds to the ensemble {error.method}, which is not trained: expected "
                f"additions to its members, {', '.join(error.members)}."
            ) from error
        return error.members
    return None


def create(name: str, members: Sequence[tuple[Run, float]]) -> Run:
    """Creates the run of an ensemble, of the seed that all members have.

    Args:
      name: name of the ensemble in tables and folders.
      members: runs with weights above 0, which are divided by their sum.
    Raises:
      UserError: if the members are not evaluated alike.
    """
    first = members[0][0]
    ours = flatten(first.config)
    for member, _ in members[1:]:
        theirs = flatten(member.config)
        for field in _COMMON:
            if ours[field] != theirs[field]:
                raise UserError(
                    f"The members {first.method} and {member.method} of {name} have config.{field} "
                    f"{ours[field]!r} and {theirs[field]!r}: expected the same."
                )
    total = sum(weight for _, weight in members)
    weighted = tuple((member, weight / total) for member, weight in members)
    folder = f"{name}/seed_{first.seed}"
    return Run(name, None, first.seed, first.root, folder, first.config, weighted)
