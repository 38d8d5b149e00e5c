"""Defines the base of terms that average a loss over the pixels of one prediction."""

import abc
import dataclasses
from typing import ClassVar

import jax

from alp_jax.models.segmenter import MAIN
from alp_jax.objective import patches
from alp_jax.objective.types import TARGET, Contribution, Curve, Seen, Surroundings, Term
from alp_jax.settings.schema import refuse, setting


@dataclasses.dataclass(frozen=True)
class PixelTerm(Term):
    """A mean over pixels of the prediction of one head for the images of one view.

    Attributes:
      title, unit: of the curve, such as "cross-entropy" in "nats"; no unit: "".
      needs_labels: whether a view without labels is refused.
    """

    view: str = setting(TARGET, "View whose images are predicted.")
    head: str = setting(MAIN, "Head that predicts them.")
    title: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    needs_labels: ClassVar[bool] = False

    @property
    def views(self) -> tuple[str, ...]:
        """The view whose images are predicted."""
        return (self.view,)

    @property
    def heads(self) -> tuple[str, ...]:
        """The head that predicts them."""
        return (self.head,)

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The curve of the loss."""
        head = "" if self.head == MAIN else f", {self.head} head"
        unit = f" ({self.unit})" if self.unit else ""
        title = f"{self.title}, {self.view}{head}{unit}"
        return (Curve(title, (f"loss/{self.name}",), short=self.short),)

    @property
    def short(self) -> str:
        """Label of the loss in the progress bar: the term's name."""
        return self.name

    def check_fit(self, name: str, surroundings: Surroundings) -> None:
        """Refuses a view without labels, if the term reads them."""
        if self.needs_labels and self.view not in surroundings.labelled:
            labelled = sorted(surroundings.labelled & surroundings.sizes.keys())
            refuse(
                f"{name}.view", self.view, f"a view with labels: {', '.join(labelled) or 'none'}"
            )

    def loss(self, seen: Seen) -> Contribution:
        """Computes the mean, and logs it under the term's name."""
        value = self.average(seen)
        return Contribution(value, {f"loss/{self.name}": value})

    @abc.abstractmethod
    def average(self, seen: Seen) -> jax.Array:
        """Computes the mean loss of the pixels: a scalar."""

    def upsample(self, seen: Seen) -> jax.Array:
        """Upsamples the head's logits to the size of the images: [B, H, W, K]."""
        height, width = seen.sample.images.shape[1:3]
        return patches.upsample(seen.outputs.logits[self.head], (height, width))
