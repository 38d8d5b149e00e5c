"""Computes the logits of every head and the features of every stage: the segmenter f.

Synopsis:

  params, model_state = segmenter.init(rng)
  outputs, model_state = segmenter.apply(params, model_state, images, train=True)
  outputs.logits["main"]
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.errors import UserError
from alp_jax.models.parts import Backbone, Decoder, Group

PyTree = Any

# The head whose logits are the prediction.
MAIN = "main"
# The backbone's name in the tree of parameters.
BACKBONE = "backbone"


class Outputs(NamedTuple):
    """The outputs of a segmenter for a batch of images.

    Attributes:
      logits: head -> [B, h, w, C], float32 or wider, at the stride of the head's decoder.
      features: [B, h, w, channels] of every stage of the backbone.
    """

    logits: dict[str, jax.Array]
    features: tuple[jax.Array, ...]


def split_heads(joined: str) -> tuple[str, ...]:
    """Splits names of heads that are joined by +: "main+second"."""
    return tuple(joined.split("+"))


def name_decoder(head: str) -> str:
    """Returns the name of a head's decoder in the tree of parameters."""
    return "classifier" if head == MAIN else f"{head}_classifier"


class Network(nn.Module):
    """Applies a backbone, and a decoder for each head.

    The network scales the pixels itself, because its weights are only valid for one scaling.

    Attributes:
      backbone: images -> features of every stage.
      decoders: one for each head, named as in the tree of parameters.
      heads: names of the heads.
      stages: the last stage that each decoder reads, -1 for the backbone's last.
      input_order: "rgb" or "bgr", the channel order of the weights.
      input_mean, input_std: mean and divisor of each channel in that order, in grey levels of
        [0, 255].
    """

    backbone: nn.Module
    decoders: tuple[nn.Module, ...]
    heads: tuple[str, ...]
    stages: tuple[int, ...]
    input_order: str
    input_mean: tuple[float, float, float]
    input_std: tuple[float, float, float]
    # For flax: submodules keep their own names.
    preserve_adopted_names: ClassVar[bool] = True

    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        """Computes the outputs for [B, H, W, 3] uint8 or float RGB in [0, 255]."""
        images = images.astype(jnp.float32)
        if self.input_order == "bgr":
            images = images[..., ::-1]
        images = (images - jnp.array(self.input_mean)) / jnp.array(self.input_std)
        features = _check_features(self.backbone(images, train=train))
        logits = {
            head: decoder(features[: len(features) + stage + 1], train=train)
            for head, decoder, stage in zip(self.heads, self.decoders, self.stages, strict=True)
        }
        return Outputs(logits, features)


def _check_features(features: Any) -> tuple[jax.Array, ...]:
    """Returns the features of all stages as a tuple."""
    if not isinstance(features, list | tuple) or any(jnp.ndim(stage) != 4 for stage in features):
        raise UserError(
            f"The backbone returns {getattr(features, 'shape', type(features).__name__)}: expected "
            "a list with the features [B, h, w, channels] of each stage."
        )
    return tuple(features)


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """A network with pure functions as its interface.

    Attributes:
      module: maps images to Outputs.
      heads: names of the heads, MAIN first.
      num_classes: number of classes, C.
      init_size: (height, width) in pixels of the image that `init` derives shapes from.
      parts: (name in the tree of parameters, settings that label its parameters).
      prediction: heads whose logits are summed to make predictions.
    """

    module: nn.Module
    heads: tuple[str, ...]
    num_classes: int
    init_size: tuple[int, int] = (64, 64)
    parts: tuple[tuple[str, Backbone | Decoder], ...] = ()
    prediction: tuple[str, ...] = (MAIN,)

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
          key: typed key for dropout and the like; None for a network without them.
        Returns:
          (outputs, new model_state).
        """
        variables = {"params": params, **model_state}
        if not train:
            outputs = self.module.apply(variables, images, train=False)
            return self._check(cast(Outputs, outputs)), model_state
        outputs, new_model_state = self.module.apply(
            variables,
            images,
            train=True,
            mutable=list(model_state),
            rngs=None if key is None else {"dropout": key},
        )
        return self._check(cast(Outputs, outputs)), new_model_state

    def predict(self, outputs: Outputs) -> jax.Array:
        """Returns the logits [B, h, w, C] that predictions are made of."""
        return functools.reduce(jnp.add, [outputs.logits[head] for head in self.prediction])

    def _check(self, outputs: Outputs) -> Outputs:
        """Refuses outputs of other channels than the parts of the network declare."""
        backbone = dict(self.parts).get("backbone")
        if isinstance(backbone, Backbone):
            found = tuple(feature.shape[-1] for feature in outputs.features)
            if found != tuple(backbone.stage_channels):
                raise UserError(
                    f"The backbone {type(backbone).__name__} returns features of {found} channels "
                    f"and declares stage_channels {tuple(backbone.stage_channels)}: mend one."
                )
        for head, logits in outputs.logits.items():
            shape = getattr(logits, "shape", type(logits).__name__)
            if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] != self.num_classes:
                raise UserError(
                    f"The decoder of the head {head} returns {shape}: expected logits "
                    f"[B, h, w, {self.num_classes}]."
                )
        return outputs

    def groups(self, params: PyTree) -> PyTree:
        """Labels every parameter for the optimizer, by the `group` methods of the network's parts.

        Args:
          params: a tree of parameters, or any tree with the same names.
        Returns:
          a tree of Group.
        Raises:
          UserError: if a part does not label a parameter; the message names it.
        """
        parts = dict(self.parts)

        def label(path: tuple[Any, ...], _: Any) -> Group:
            part, *below = (entry.key for entry in path)
            if part not in parts:
                shown = "/".join((part, *below))
                raise UserError(
                    f"The parameter {shown} belongs to no part of the network: expected one of "
                    f"{', '.join(parts)}."
                )
            group = parts[part].group(tuple(below))
            if not isinstance(group, Group):
                owner = type(parts[part])
                raise UserError(
                    f"The parameter {'/'.join((part, *below))} belongs to no group: expected "
                    f"{owner.__name__}.group to return a Group for {'/'.join(below)}, and it "
                    f"returns {group!r}; mend that method in the file of the network."
                )
            return group

        return jax.tree_util.tree_map_with_path(label, params)
