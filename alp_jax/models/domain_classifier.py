"""Defines the domain classifier of the motivational experiment: ResNet-18 on one-hot label maps.

Synopsis:

  classifier = create_domain_classifier(label_set.num_classes)
  params, model_state = classifier.init(rng)
  logits, model_state = classifier.apply(params, model_state, maps, train=True)
"""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from alp_jax.models import layers
from alp_jax.models.residual import Block

PyTree = Any

RESNET18_WIDTHS = (64, 128, 256, 512)
_BLOCKS_PER_STAGE = 2
# As torchvision initialises a ResNet that is trained from scratch (He et al., ICCV 2015, fan out).
_KERNEL_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class ResNet18(nn.Module):
    """Classifies maps by domain: [B, H, W, C] -> [B] logits of the target domain.

    The standard ResNet-18 (He et al., CVPR 2016) layer by layer: 7x7 convolution of stride 2, batch
    norm, ReLU, 3x3 max-pool of stride 2 that rounds sizes down (DeepLab's, `layers.max_pool_ceil`,
    rounds up), four stages of two basic blocks, mean over the map, and a linear layer with one
    output, because two classes need only one. Batch norm uses the batch's statistics in training.

    Attributes:
      widths: channels of each stage; the stem has as many as the first.
    """

    widths: tuple[int, ...] = RESNET18_WIDTHS

    @nn.compact
    def __call__(self, maps: jax.Array, *, train: bool) -> jax.Array:
        """Computes the logits; `train` selects the batch's statistics, else the running ones."""
        stem = layers.Conv(
            self.widths[0], 7, stride=2, padding=3, kernel_init=_KERNEL_INIT, name="conv1"
        )
        norm = layers.BatchNorm("batch", train_affine=True, name="bn1")
        features = nn.relu(norm(stem(maps), train=train))
        features = nn.max_pool(features, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for stage, width in enumerate(self.widths, start=1):
            for block in range(_BLOCKS_PER_STAGE):
                opens = block == 0 and stage > 1
                features = Block(
                    kind="basic",
                    stride_in="1x1",  # Only bottlenecks read it.
                    width=width,
                    stride=2 if opens else 1,
                    dilation=1,
                    project=opens,
                    batch_norm_mode="batch",
                    train_affine=True,
                    kernel_init=_KERNEL_INIT,
                    name=f"layer{stage}_{block}",
                )(features, train)
        # A block's output is a pre-activation.
        pooled = jnp.mean(layers.relu(features), axis=(1, 2))
        kernel = self.param("head_kernel", layers.uniform_fan_in_kernel, (self.widths[-1], 1))
        bias = self.param("head_bias", layers.uniform_fan_in, (1,), self.widths[-1])
        return (pooled @ kernel + bias)[:, 0]


@dataclasses.dataclass(frozen=True)
class DomainClassifier:
    """Classifies label maps by domain; model_state holds the statistics of batch norm."""

    module: ResNet18
    num_classes: int

    def init(self, rng: jax.Array) -> tuple[PyTree, PyTree]:
        """Creates (params, model_state) from a typed key."""
        maps = jnp.zeros((1, 64, 64, self.num_classes), jnp.float32)
        variables = self.module.init(rng, maps, train=False)
        return variables["params"], {"batch_stats": variables["batch_stats"]}

    def apply(
        self, params: PyTree, model_state: PyTree, maps: jax.Array, *, train: bool
    ) -> tuple[jax.Array, PyTree]:
        """Computes (logits [B], new model_state) of uint8 train ids [B, H, W].

        The network sees them one-hot, [B, H, W, C] float32; an ignored pixel (any id that is not a
        class) is the zero vector.
        """
        one_hot = jax.nn.one_hot(maps, self.num_classes, dtype=jnp.float32)
        variables = {"params": params, **model_state}
        if not train:
            logits = self.module.apply(variables, one_hot, train=False)
            return cast(jax.Array, logits), model_state
        logits, new_model_state = self.module.apply(
            variables, one_hot, train=True, mutable=["batch_stats"]
        )
        return cast(jax.Array, logits), new_model_state


def create_domain_classifier(
    num_classes: int, widths: tuple[int, ...] = RESNET18_WIDTHS
) -> DomainClassifier:
    """Creates the classifier; other `widths` than ResNet-18's make a slimmer one for small maps."""
    return DomainClassifier(ResNet18(widths), num_classes)
