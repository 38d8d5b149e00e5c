"""Keeps the classes of predictions as frequent as in the source: the CP of Vu et al., CVPR 2019."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from alp_jax.objective.pixel_term import PixelTerm
from alp_jax.objective.types import Seen
from alp_jax.settings.schema import refuse, setting


@dataclasses.dataclass(frozen=True)
class ClassRatioPrior(PixelTerm):
    """Penalises each class that an image has less of than a share of its part in the source.

    sum_c max(0, mu p_s(c) - mean_pixels p(c)), averaged over the images of a batch. p_s(c) is the
    share of class c among the labelled pixels of the source dataset, as stored, and p the
    prediction at the images' size. AdvEnt's code lacks this term: form and mu are those of its
    paper, the weight is ours.
    """

    weight: float = setting(
        0.001, "Factor of the loss; ours, as no code was published.", at_least=0
    )
    mu: float = setting(
        0.5,
        "Part of a class's share in the source below which it is penalised.",
        at_least=0,
        at_most=1,
    )
    class_shares: tuple[float, ...] = setting(
        (),
        "Share of each class in the source; empty: a run counts the labels of the whole source "
        "dataset when it starts, and writes the shares here.",
        at_least=0,
        derived=True,
    )
    title: ClassVar[str] = "class ratio prior"

    def complete(self, count_pixels: Callable[[], np.ndarray]) -> Self:
        """Fills empty `class_shares` by the shares of the classes in the source."""
        if self.class_shares:
            return self
        pixels = count_pixels()
        shares = (pixels / max(pixels.sum(), 1)).tolist()
        return dataclasses.replace(self, class_shares=tuple(shares))

    def average(self, seen: Seen) -> jax.Array:
        """Computes the penalty, averaged over images."""
        logits = self.upsample(seen)
        num_classes = logits.shape[-1]
        if len(self.class_shares) != num_classes:
            refuse(
                f"config.terms.{self.name}.class_shares",
                self.class_shares,
                f"the share of each of the {num_classes} classes in the source, or an empty list, "
                "which training fills",
            )
        predicted = jnp.mean(jax.nn.softmax(logits), axis=(1, 2))
        least = self.mu * jnp.asarray(self.class_shares, predicted.dtype)
        return jnp.mean(jnp.sum(jax.nn.relu(least - predicted), axis=-1))


TERM = ClassRatioPrior
