"""The settings of an objective, and the objective that they describe.

Synopsis:

  objective = create_objective(build(ObjectiveSettings, config), heads=("main",))
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from alp_jax.objective.types import SOURCE, Objective, Size, Surroundings, Term, View
from alp_jax.settings.schema import blocks, refuse


@dataclasses.dataclass(frozen=True)
class ObjectiveSettings:
    """What a method minimises."""

    views: dict[str, Any] = blocks(
        "alp_jax.objective.views", "VIEW", "Forward passes of the segmenter, by name."
    )
    terms: dict[str, Any] = blocks("alp_jax.objective.terms", "TERM", "Parts of the loss, by name.")


def create_objective(settings: ObjectiveSettings, *, heads: Sequence[str]) -> Objective:
    """Orders views and terms: source and target first; of terms, the main head's first."""
    views: list[View] = list(settings.views.values())
    terms: list[Term] = list(settings.terms.values())
    return Objective(
        tuple(sorted(views, key=lambda view: (view.role, view.name))),
        tuple(sorted(terms, key=lambda term: _place(term, heads))),
    )


def _place(term: Term, heads: Sequence[str]) -> tuple[int, bool, str]:
    place = list(heads).index(term.heads[0]) if term.heads else len(heads)
    return place, term.owns_parameters, term.name


def check_objective(
    settings: ObjectiveSettings, name: str, *, sizes: dict[str, Size], heads: Sequence[str]
) -> None:
    """Refuses an objective that does not fit the images or the network.

    Args:
      settings: of the objective.
      name: of its block in the configuration, such as "config".
      sizes: domain -> (height, width) of its images.
      heads: of the segmenter.
    Raises:
      UserError: naming the field.
    """
    domains = Surroundings(dict(sizes), tuple(heads), frozenset({SOURCE}))
    seen = dict(sizes)
    labelled = set()
    for view_name, view in settings.views.items():
        size, has_labels = view.describe(f"{name}.views.{view_name}", domains)
        seen[view_name] = size
        labelled |= {view_name} if has_labels else set()
    surroundings = Surroundings(
        {view: seen[view] for view in settings.views}, tuple(heads), frozenset(labelled)
    )
    for term_name, term in settings.terms.items():
        full = f"{name}.terms.{term_name}"
        for view in term.views:
            if view not in settings.views:
                refuse(f"{full}: the view", view, f"one of {', '.join(settings.views)}")
        for head in term.heads:
            if head not in heads:
                refuse(f"{full}.head", head, f"one of the network's: {', '.join(heads)}")
        term.check_fit(full, surroundings)
