"""Declares the settings of an objective, config.views and config.terms, and builds it from them.

Synopsis:

  config.views = {"source": view("images", domain="source")}
  config.terms = {"cross_entropy": term("cross_entropy")}
  objective = create_objective(settings.views, settings.terms, heads=("main",))
"""

from collections.abc import Mapping, Sequence
from typing import Any

from alp_jax.errors import UserError
from alp_jax.objective.checks import check_description
from alp_jax.objective.objective import Objective
from alp_jax.objective.phases import Updates
from alp_jax.objective.types import TARGET, Size, Surroundings, Term, View
from alp_jax.settings.schema import Config, block, blocks, new_block, refuse

_VIEWS = ("alp_jax.objective.views", "VIEW")
_TERMS = ("alp_jax.objective.terms", "TERM")
_PLACEMENTS = ("alp_jax.objective.placements", "PLACEMENT")
_PIXEL_WEIGHTS = ("alp_jax.objective.pixel_weights", "PIXEL_WEIGHTS")
_TEACHERS = ("alp_jax.objective.teachers", "TEACHER")
_UPDATES = ("alp_jax.objective.updates", "UPDATES")


def declare_views() -> Any:
    """Declares the field of a settings class that holds views."""
    return blocks(*_VIEWS, "Forward passes of the segmenter, by name.")


def declare_terms() -> Any:
    """Declares the field of a settings class that holds terms."""
    return blocks(*_TERMS, "Parts of the loss, by name.")


def declare_updates() -> Any:
    """Declares the field of a settings class that holds the updates of a step."""
    sentence = "Updates of the segmenter in a step: one of all parameters, or phases (MCD)."
    return block(*_UPDATES, sentence, default_kind="joint")


def declare_teacher() -> Any:
    """Declares the field of a settings class that holds a teacher."""
    sentence = "Second set of the network's weights, which makes labels for views: none, or a kind."
    return block(*_TEACHERS, sentence, default_kind="none")


def view(kind: str, **values: Any) -> Config:
    """Creates the block of a view for a configuration file."""
    return new_block(*_VIEWS, kind, **values)


def term(kind: str, **values: Any) -> Config:
    """Creates the block of a term for a configuration file."""
    return new_block(*_TERMS, kind, **values)


def placement(kind: str, **values: Any) -> Config:
    """Creates the block of a placement of patches for a configuration file."""
    return new_block(*_PLACEMENTS, kind, **values)


def updates(kind: str, **values: Any) -> Config:
    """Creates the block of the updates of a step for a configuration file."""
    return new_block(*_UPDATES, kind, **values)


def teacher(kind: str, **values: Any) -> Config:
    """Creates the block of a teacher for a configuration file."""
    return new_block(*_TEACHERS, kind, **values)


def pixel_weights(kind: str, **values: Any) -> Config:
    """Creates the block of an alignment's weights of pixels for a configuration file."""
    return new_block(*_PIXEL_WEIGHTS, kind, **values)


def create_objective(
    views: Mapping[str, View],
    terms: Mapping[str, Term],
    *,
    heads: Sequence[str],
    updates: Updates | None = None,
) -> Objective:
    """Creates an objective with its views and terms in a fixed order.

    Views: source, target, then the others. Terms: by the head that they read, in the order of
    `heads`; within a head, terms that own parameters come last. `updates` None makes one update of
    all parameters.
    """
    return Objective(
        tuple(sorted(views.values(), key=lambda found: (found.role, found.name))),
        tuple(sorted(terms.values(), key=lambda found: _place(found, heads))),
        *([] if updates is None else [updates.list_phases(terms)]),
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
      views, terms: blocks of the objective by name.
      name: name of the configuration, "config".
      sizes: domain -> (height, width) of its images.
      heads: names of the segmenter's heads.
      has_statistics: whether a forward pass may update statistics of the network.
    Raises:
      UserError: naming the field.
    """
    if not terms:
        refuse(f"{name}.terms", {}, "at least one term, such as cross_entropy")
    labelled = frozenset(sizes) - {TARGET}
    domains = Surroundings(dict(sizes), tuple(heads), labelled)
    described = {
        view_name: check_description(found.describe(full, domains), full)
        for view_name, found in views.items()
        for full in [f"{name}.views.{view_name}"]
    }
    surroundings = Surroundings(
        {view_name: size for view_name, (size, _) in described.items()},
        tuple(heads),
        frozenset(view_name for view_name, (_, has_labels) in described.items() if has_labels),
    )
    for term_name, found in terms.items():
        full = f"{name}.terms.{term_name}"
        for attribute in ("views", "heads"):
            if not isinstance(getattr(found, attribute), tuple):
                raise UserError(
                    f"{type(found).__name__}.{attribute} of {full} is "
                    f"{getattr(found, attribute)!r}: expected a tuple of names, such as "
                    "('target',)."
                )
        for view_name in found.views:
            if view_name not in views:
                raise UserError(
                    f"{full} reads the view {view_name}, which {name}.views lacks: expected one of "
                    f"{_list(views)}."
                )
        for head in found.heads:
            if head not in heads:
                is_field = getattr(found, "head", None) == head
                place = f"{full}.head" if is_field else f"A head that {full} reads"
                refuse(place, head, f"a head of the network: {_list(heads)}")
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
    """Refuses a view that has no effect, and a head that no term trains."""
    read = {view_name for found in terms.values() for view_name in found.views}
    for view_name, found in views.items():
        if view_name not in read and not (found.moves_statistics and has_statistics):
            raise UserError(
                f"{name}.views.{view_name} changes nothing: no term reads it, and its images move "
                "no statistics; expected a term that reads it, or a network whose batch norm "
                "follows the images (running or batch)."
            )
    trained = {head for found in terms.values() for head in found.heads}
    for head in heads:
        if head not in trained:
            raise UserError(
                f"No term of {name}.terms trains the network's head {head}: expected one with that "
                "head."
            )


def _list(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"
