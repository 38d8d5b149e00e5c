"""Adds the paper's alignment of local predictions to any method: METHOD+alp.

Cicek et al., ACCV 2020, Eq. (4), with a discriminator of its own, on randomly placed patches of the
prediction. source_only+alp is ALP-GI.
"""

import ml_collections

from alp_jax.objective.settings import term, view


def apply(config: ml_collections.ConfigDict) -> None:
    """Adds the term `alignment`, and the views that it reads where the method lacks them."""
    for domain in ("source", "target"):
        if domain not in config.views:
            config.views[domain] = view("images", domain=domain)
    config.terms.alignment = term("alignment")
