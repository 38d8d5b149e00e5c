"""Defines the base class of weights of the target's pixels in an alignment."""

import abc
import dataclasses
from collections.abc import Sequence

import jax


@dataclasses.dataclass(frozen=True)
class PixelWeights(abc.ABC):
    """Weights of the target's pixels in the losses of both players of an alignment.

    The segmenter's gradient passes through them; to the discriminator they are constants.
    """

    @abc.abstractmethod
    def compute(self, logits: Sequence[jax.Array], step: jax.Array) -> jax.Array | None:
        """Computes the weights of the pixels of patches.

        Args:
          logits: [B * P, h, w, K] of each head that is aligned.
          step: number of updates before this step.
        Returns:
          [B * P, h, w]; None weighs every pixel 1.
        """

    def check_fit(self, name: str, heads: Sequence[str], decision: str) -> None:
        """Refuses settings that do not fit the alignment.

        Args:
          name: name of the block in the configuration.
          heads: heads that are aligned.
          decision: `decision` of the alignment.
        Raises:
          UserError: naming the field.
        """
        del name, heads, decision
