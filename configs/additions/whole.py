"""Adds an alignment of whole prediction maps to any method, METHOD+whole: the control of +alp.

The same term as in `alp`, with a discriminator of its own, on the whole map. source_only+whole is
AGP-GI.
"""

import ml_collections

from alp_jax.objective.settings import placement, term, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the term `alignment`, and the views that it reads where the method lacks them."""
    for domain in ("source", "target"):
        if domain not in config.views:
            config.views[domain] = view("images", domain=domain)
    config.terms.alignment = term("alignment")
    config.terms.alignment.patches = placement("whole")
