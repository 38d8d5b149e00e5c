"""The segmenter f: images to logits of every head and features of every stage.

Synopsis:

  params, model_state = segmenter.init(rng)
  outputs, model_state = segmenter.apply(params, model_state, images, train=True)
  outputs.logits["main"]
"""

import dataclasses
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

PyTree = Any

# The head whose logits are the prediction.
MAIN = "main"


class Outputs(NamedTuple):
    """What a segmenter computes from a batch of images.

    Attributes:
      logits: head -> [B, h, w, C], float32 or wider, at the stride of the head's stage.
      features: [B, h, w, channels] of every stage of the backbone.
    """

    logits: dict[str, jax.Array]
    features: tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A network and its interface of pure functions.

    Attributes:
      module: maps images to Outputs.
      heads: names of the heads, MAIN first.
      num_classes: C.
      init_size: (height, width) of the image that shapes are derived from.
    """

    module: nn.Module
    heads: tuple[str, ...]
    num_classes: int
    init_size: tuple[int, int] = (64, 64)

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        """Creates (params, model_state) from a typed key; model_state may be empty."""
        images = jnp.zeros((1, *self.init_size, 3), jnp.float32)
        variables = dict(self.module.init(rng, images, train=False))
        return variables.pop("params"), variables

    def apply(
        self,
        params: PyTree,
        model_state: PyTree,
        images: jax.Array,
        *,
        train: bool,
        key: jax.Array | None = None,
    ) -> tuple[Outputs, PyTree]:
        """Computes the outputs.

        Args:
          params, model_state: as `init` creates them.
          images: [B, H, W, 3] RGB, 0..255.
          train: whether the layers behave as in training; otherwise model_state is returned as is.
          key: typed key of dropout and the like; None for a network without.
        Returns:
          (outputs, new model_state).
        """
        variables = {"params": params, **model_state}
        if not train:
            return cast(Outputs, self.module.apply(variables, images, train=False)), model_state
        outputs, new_model_state = self.module.apply(
            variables,
            images,
            train=True,
            mutable=list(model_state),
            rngs=None if key is None else {"dropout": key},
        )
        return cast(Outputs, outputs), new_model_state
