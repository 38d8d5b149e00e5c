"""Keeps two classifiers apart by their weights: CLAN of Luo et al., CVPR 2019."""

import dataclasses
from typing import Any

import jax
import optax

from alp_jax.models.segmenter import name_decoder
from alp_jax.objective.head_pair import HeadPair
from alp_jax.objective.types import SOURCE, Contribution, Curve, Seen
from alp_jax.settings.schema import refuse, setting

PyTree = Any


@dataclasses.dataclass(frozen=True)
class WeightCosine(HeadPair):
    """Minimises cos(w_1, w_2) + 1, w_i all kernels and biases of a head's decoder.

    Code: RoyalVane/CLAN, CLAN_train.py, which multiplies it by 0.01 and by 2, and by a factor that
    falls linearly to 0 during training.
    """

    weight: float = setting(0.02, "Factor of the loss; 0.01 * 2 in CLAN's code.", at_least=0)
    view: str = setting(
        SOURCE, "View with whose losses the term is added; its images are not read."
    )

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The curve of the loss."""
        title = f"cosine of the weights of {self.head} and {self.other_head}, plus 1"
        return (Curve(title, (f"loss/{self.name}",), short=self.name),)

    def loss(self, seen: Seen) -> Contribution:
        """Computes the cosine of the heads' weights, plus 1: in [0, 2]."""
        # A head that shares another's decoder has no parameters.
        first, second = (seen.params.get(name_decoder(head)) for head in self.heads)
        if first is None or _get_shapes(first) != _get_shapes(second):
            refuse(
                f"config.terms.{self.name}.other_head",
                self.other_head,
                f"a head whose parameters have the shapes of those of {self.head}: the same "
                "decoder on the same stage",
            )
        norms = optax.tree.norm(first) * optax.tree.norm(second)
        value = optax.tree.vdot(first, second) / norms + 1
        return Contribution(value, {f"loss/{self.name}": value})


def _get_shapes(params: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: leaf.shape, params)


TERM = WeightCosine
