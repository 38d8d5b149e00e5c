"""Defines base classes for the settings of backbones and decoders.

Synopsis of a file in backbones/; it imports no other file of that folder:

  @dataclasses.dataclass(frozen=True)
  class MyBackbone(Backbone):
      width: int = setting(64, "Channels.", at_least=1)
      stage_channels = property(lambda self: (self.width,))

      def create(self, dtype): return MyModule(self.width, dtype)
      def group(self, path): return Group("backbone")

  BACKBONE = MyBackbone
"""

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp

from alp_jax.models.published import Layout, Path, SizeOf
from alp_jax.settings.schema import setting

Part = Literal["backbone", "decoder", "frozen"]


@dataclasses.dataclass(frozen=True)
class Group:
    """Optimizer group of a parameter; a leaf of the tree that `Segmenter.groups` returns.

    Attributes:
      part: "backbone", "decoder" or "frozen" (no update and no weight decay).
      decays: whether weight decay applies in optimizers that exempt parameters, as AdamW usually
        exempts normalisation layers; SGD of the published code decays all.
      repeats: how often published code lists the parameter in its optimizer.
      depth: layer or stage of a backbone, from 0, for layer-wise decay of learning rates.
    """

    part: Part
    decays: bool = True
    repeats: int = 1
    depth: int = 0


@dataclasses.dataclass(frozen=True)
class Backbone(abc.ABC):
    """Settings of a backbone.

    Attributes:
      published: name -> layout of a family of published files that hold only this backbone.
      published_modules: names in the keys of published files, in the order of their state_dict().
    """

    published: ClassVar[Mapping[str, Layout]] = {}
    published_modules: ClassVar[tuple[str, ...]] = ()

    @property
    @abc.abstractmethod
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of the features of every stage, from the first to the last."""

    @property
    def init_size(self) -> tuple[int, int]:
        """Any image size (height, width) in pixels that the network accepts."""
        return (64, 64)

    @property
    def moves_statistics(self) -> bool:
        """Whether a forward pass in training may update statistics (of batch norm)."""
        return False

    @abc.abstractmethod
    def create(self, dtype: jnp.dtype | None) -> nn.Module:
        """Creates the network.

        Args:
          dtype: type of activations, see `layers.Conv`.
        Returns:
          a module: (images [B, H, W, 3] float32, already scaled; train=) -> a list of the features
          [B, h, w, C] of every stage.
        """

    @abc.abstractmethod
    def group(self, path: Path) -> Group | None:
        """Labels a parameter for the optimizer; None if the network has no such parameter."""

    @classmethod
    def read_fields(cls, size_of: SizeOf, keys: Iterable[str]) -> dict[str, Any]:
        """Reads settings from the sizes of tensors in a published file.

        Args:
          size_of: returns the number of outputs of a convolution or linear layer, by key.
          keys: all keys of the file.
        """
        raise NotImplementedError(f"{cls.__name__} declares no published files.")

    def published_key(self, path: Path) -> str:
        """Returns the key of a parameter or statistic in a published file."""
        raise NotImplementedError(f"{type(self).__name__} declares no published files.")


@dataclasses.dataclass(frozen=True)
class Decoder(abc.ABC):
    """Settings of a decoder: one head of the segmenter.

    Attributes:
      stage: the last stage of the backbone that the decoder reads.
      published_modules: names in the keys of published files, in the order of their state_dict().
    """

    stage: int = setting(
        -1,
        "Last stage of the backbone that the decoder reads: -1 is the last, -2 the one before.",
        at_most=-1,
    )
    published_modules: ClassVar[tuple[str, ...]] = ()

    @property
    def shares(self) -> str | None:
        """Head whose decoder this head uses in place of one of its own; None for its own."""
        return None

    @property
    def moves_statistics(self) -> bool:
        """Whether a forward pass in training may update statistics (of batch norm)."""
        return False

    @abc.abstractmethod
    def create(self, num_classes: int, dtype: jnp.dtype | None) -> nn.Module:
        """Creates the network.

        Args:
          num_classes: channels of the logits.
          dtype: type of activations, see `layers.Conv`.
        Returns:
          a module: (features of the stages up to `stage`, the first stage first; train=) -> logits
          [B, h, w, num_classes] in float32 or wider.
        """

    @abc.abstractmethod
    def group(self, path: Path) -> Group | None:
        """Labels a parameter for the optimizer; None if the network has no such parameter."""

    def published_key(self, path: Path, modules: tuple[str, ...]) -> str:
        """Returns the key of a parameter or statistic in a published file.

        Args:
          path: path of the parameter below the decoder.
          modules: modules of the file; the decoder is the sum of their outputs.
        """
        raise NotImplementedError(f"{type(self).__name__} has no published layout.")

    @classmethod
    def published_logits_key(cls, module: str) -> str:
        """Returns the key of a weight whose first dimension is the number of classes."""
        raise NotImplementedError(f"{cls.__name__} has no published layout.")

    def list_published_extras(self, modules: tuple[str, ...]) -> dict[str, str]:
        """Maps each tensor that only published files hold to another one of the same shape."""
        del modules
        return {}
