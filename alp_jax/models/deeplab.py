"""The segmenter f: DeepLabv2, a dilated ResNet and a classifier of summed dilated branches."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import layers, resnet
from alp_jax.models.segmenter import MAIN, Outputs

AUX = "aux"


class AsppClassifier(nn.Module):
    """Sums dilated 3x3 convolutions to one logit map: [B, H, W, C] -> [B, H, W, num_classes]."""

    num_classes: int
    dilations: tuple[int, ...]
    dtype: jnp.dtype | None

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Computes the logits, at least in single precision; branches have the type `dtype`."""
        branches = [
            layers.Conv(
                self.num_classes,
                3,
                dilation=dilation,
                padding=dilation,
                use_bias=True,
                kernel_init=nn.initializers.normal(0.01),
                dtype=self.dtype,
                name=f"branch{i}",
            )(features)
            for i, dilation in enumerate(self.dilations)
        ]
        precise = [layers.at_least_single(branch) for branch in branches]
        return sum(precise[1:], precise[0])


class DeepLabV2(nn.Module):
    """Segmentation network; input is RGB in [0, 255], logits are at the output stride.

    How pixels are scaled belongs to the network, as its weights mean nothing without it.

    Attributes:
      backbone: feature extractor.
      classifier: its parameters learn ten times faster (see `alp_jax.objective.optim`).
      aux_classifier: a second one on the last stage but one, in training only (AdvEnt's multi-level
        network), or None.
      input_order: "rgb" or "bgr", the channel order of the weights.
      input_mean, input_std: per channel in that order, in grey levels of [0, 255].
    """

    backbone: resnet.Backbone
    classifier: AsppClassifier
    aux_classifier: AsppClassifier | None
    input_order: str
    input_mean: tuple[float, float, float]
    input_std: tuple[float, float, float]

    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        """[B, H, W, 3] uint8 or float -> logits by head, each at its stage's stride, and stages."""
        images = images.astype(jnp.float32)
        if self.input_order == "bgr":
            images = images[..., ::-1]
        images = (images - jnp.array(self.input_mean)) / jnp.array(self.input_std)
        stages = self.backbone(images, train=train)
        logits = {MAIN: self.classifier(stages[-1])}
        if self.aux_classifier is not None:
            logits[AUX] = self.aux_classifier(stages[-2])
        return Outputs(logits, tuple(stages))
