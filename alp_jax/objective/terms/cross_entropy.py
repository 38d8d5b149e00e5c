"""Trains on labels with the cross-entropy: Eq. (1) of Cicek et al., ACCV 2020."""

import dataclasses

import jax.numpy as jnp

from alp_jax.models.segmenter import MAIN
from alp_jax.objective import losses, patches
from alp_jax.objective.types import Contribution, Curve, Seen, Surroundings, Term
from alp_jax.settings.schema import refuse, setting


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Term):
    """Averages the cross-entropy over the labelled pixels of a batch, at the images' size."""

    view: str = setting("source", "View whose labels are learned.")
    head: str = setting(MAIN, "Head that learns them.")

    @property
    def views(self) -> tuple[str, ...]:
        """The view whose labels are learned."""
        return (self.view,)

    @property
    def heads(self) -> tuple[str, ...]:
        """The head that learns the labels."""
        return (self.head,)

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The curve of the loss."""
        head = "" if self.head == MAIN else f", {self.head} head"
        short = self.name.replace("cross_entropy", "ce")
        title = f"cross-entropy, {self.view}{head} (nats)"
        return (Curve(title, (f"loss/{self.name}",), short=short),)

    def check_fit(self, name: str, surroundings: Surroundings) -> None:
        """Refuses a view without labels."""
        if self.view not in surroundings.labelled:
            labelled = sorted(surroundings.labelled & surroundings.sizes.keys())
            refuse(
                f"{name}.view", self.view, f"a view with labels: {', '.join(labelled) or 'none'}"
            )

    def loss(self, seen: Seen) -> Contribution:
        """Computes the mean cross-entropy of the logits, upsampled to the images' size."""
        height, width = seen.sample.images.shape[1:3]
        logits = patches.upsample(seen.outputs.logits[self.head], (height, width))
        total, count = losses.cross_entropy(logits, seen.sample.labels, seen.sample.weights)
        value = total / jnp.maximum(count, 1)
        return Contribution(value, {f"loss/{self.name}": value})


TERM = CrossEntropy
