"""The settings of an objective, config.views and config.terms, and the objective they describe.

Synopsis:

  config.views = {"source": view("images", domain="source")}
  config.terms = {"cross_entropy": term("cross_entropy")}
  objective = create_objective(settings.views, settings.terms, heads=("main",))
"""

from collections.abc import Mapping, Sequence
from typing import Any

from alp_jax.objective.types import SOURCE, Objective, Size, Surroundings, Term, View
from alp_jax.settings.schema import Config, blocks, new_block, refuse

_VIEWS = ("alp_jax.objective.views", "VIEW")
_TERMS = ("alp_jax.objective.terms", "TERM")
_PLACEMENTS = ("alp_jax.objective.placements", "PLACEMENT")


def declare_views() -> Any:
    """Declares the field of a settings class that holds views."""
    return blocks(*_VIEWS, "Forward passes of the segmenter, by name.")


def declare_terms() -> Any:
    """Declares the field of a settings class that holds terms."""
    return blocks(*_TERMS, "Parts of the loss, by name.")


def view(kind: str, **values: Any) -> Config:
    """Creates the block of a view for a configuration file."""
    return new_block(*_VIEWS, kind, **values)


def term(kind: str, **values: Any) -> Config:
    """Creates the block of a term for a configuration file."""
    return new_block(*_TERMS, kind, **values)


def placement(kind: str, **values: Any) -> Config:
    """Creates the block of a placement of patches for a configuration file."""
    return new_block(*_PLACEMENTS, kind, **values)


def create_objective(
    views: Mapping[str, View], terms: Mapping[str, Term], *, heads: Sequence[str]
) -> Objective:
    """Orders views and terms.

    Views: source, target, then the others. Terms: by the head that they read, in the order of
    `heads`; of each head, terms with parameters of their own last.
    """
    return Objective(
        tuple(sorted(views.values(), key=lambda found: (found.role, found.name))),
        tuple(sorted(terms.values(), key=lambda found: _place(found, heads))),
    )


def _place(found: Term, heads: Sequence[str]) -> tuple[int, bool, str]:
    place = list(heads).index(found.heads[0]) if found.heads else len(heads)
    return place, found.owns_parameters, found.name


def check_objective(
    views: Mapping[str, View],
    terms: Mapping[str, Term],
    name: str,
    *,
    sizes: Mapping[str, Size],
    heads: Sequence[str],
    has_statistics: bool,
) -> None:
    """Refuses an objective that does not fit the images or the network.

    Args:
      views, terms: of the objective.
      name: of the configuration, "config".
      sizes: domain -> (height, width) of its images.
      heads: of the segmenter.
      has_statistics: whether a forward pass may move statistics of the network.
    Raises:
      UserError: naming the field.
    """
    if not terms:
        refuse(f"{name}.terms", {}, "at least one term, such as cross_entropy")
    domains = Surroundings(dict(sizes), tuple(heads), frozenset({SOURCE}))
    described = {
        view_name: found.describe(f"{name}.views.{view_name}", domains)
        for view_name, found in views.items()
    }
    surroundings = Surroundings(
        {view_name: size for view_name, (size, _) in described.items()},
        tuple(heads),
        frozenset(view_name for view_name, (_, has_labels) in described.items() if has_labels),
    )
    for term_name, found in terms.items():
        full = f"{name}.terms.{term_name}"
        for view_name in found.views:
            if view_name not in views:
                refuse(full, f"a term on the view {view_name}", f"a view of {_list(views)}")
        for head in found.heads:
            if head not in heads:
                refuse(f"{full}.head", head, f"a head of the network: {_list(heads)}")
        found.check_fit(full, surroundings)
    _check_owners(terms, name)
    _check_all_used(views, terms, name, heads, has_statistics)


def _check_owners(terms: Mapping[str, Term], name: str) -> None:
    """Refuses two terms whose own parameters would have the same place in the state."""
    places: dict[str, str] = {}
    for term_name, found in terms.items():
        if found.owns_parameters:
            other = places.setdefault(found.key, term_name)
            if other != term_name:
                kept = f"the parameters of {name}.terms.{other} are kept under {found.key!r}"
                refuse(f"The name of {name}.terms.{term_name}", term_name, f"another, as {kept}")


def _check_all_used(
    views: Mapping[str, View],
    terms: Mapping[str, Term],
    name: str,
    heads: Sequence[str],
    has_statistics: bool,
) -> None:
    """Refuses a view that changes nothing, and a head that nothing trains."""
    read = {view_name for found in terms.values() for view_name in found.views}
    for view_name, found in views.items():
        if view_name not in read and not (found.moves_statistics and has_statistics):
            expected = "a term that reads it, or statistics that it moves (running or batch)"
            refuse(f"{name}.views.{view_name}", "read by no term", expected)
    trained = {head for found in terms.values() for head in found.heads}
    for head in heads:
        if head not in trained:
            refuse(f"{name}.model: the head {head}", "read by no term", "a term that trains it")


def _list(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"
