"""Checks that logits were finite, by the entropy that is computed of them anyway.

Synopsis:

  check_finite(names, entropies, step=500)     # or UserError

The entropy of a pixel is NaN exactly if one of its logits, or a difference of two, is not finite.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from alp_jax.errors import UserError, shorten


def check_finite(names: Sequence[str], entropies: Iterable[np.ndarray], *, step: int) -> None:
    """Refuses predictions from logits that are not finite: their classes would mean nothing.

    Args:
      names: names of the images; empty for padding.
      entropies: [H, W] entropy of each prediction.
      step: step of the checkpoint.
    Raises:
      UserError: naming the images.
    """
    bad = [
        f"{name or 'padding'} in {count:,} of {entropy.size:,} pixels"
        for name, entropy in zip(names, entropies, strict=True)
        if (count := np.count_nonzero(~np.isfinite(entropy)))
    ]
    if bad:
        raise UserError(
            f"The logits of step {step} are not finite for {shorten(bad, 3)}: expected finite "
            "numbers, but the weights, which are finite, lead to numbers that are too large; use "
            "another checkpoint, or other weights."
        )
