"""EfficientNet-Lite restated in PyTorch, with dilation: what the backbone must compute.

Parameters have the names of the published files. Strides beyond the output stride become dilations
as in timm (`output_stride` of its EfficientNetBuilder).
"""

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The groups of blocks; the default is Lite0's."""

    stem: int = 32
    depths: Sequence[int] = (1, 2, 2, 3, 3, 4, 1)
    widths: Sequence[int] = (16, 24, 40, 80, 112, 192, 320)
    kernel_sizes: Sequence[int] = (3, 3, 5, 3, 5, 5, 3)
    strides: Sequence[int] = (1, 2, 2, 2, 1, 2, 1)
    expansions: Sequence[int] = (1, 6, 6, 6, 6, 6, 6)


# The first group's input has the published stem's 32 channels.
SMALL = Sizes(
    depths=(1, 2, 1, 1, 1),
    widths=(8, 8, 12, 16, 32),
    kernel_sizes=(3, 3, 5, 3, 5),
    strides=(1, 2, 2, 2, 2),
    expansions=(1, 2, 2, 2, 2),
)


class SameConv(nn.Conv2d):
    """Convolves with TensorFlow's padding SAME; `is_symmetric` after creation: with PyTorch's."""

    is_symmetric = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pads = []
        for side, size, stride, dilation in zip(
            images.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True
        ):
            needed = (math.ceil(side / stride) - 1) * stride + dilation * (size - 1) + 1
            missing = max(needed - side, 0)
            if self.is_symmetric:
                missing = 2 * dilation * (size // 2)
            pads = [missing // 2, missing - missing // 2, *pads]
        return F.conv2d(
            F.pad(images, pads), self.weight, None, self.stride, 0, self.dilation, self.groups
        )


def create_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    def __init__(
        self,
        channels: int,
        width: int,
        expansion: int,
        kernel_size: int,
        published_stride: int,
        stride: int,
        dilation: int,
    ):
        super().__init__()
        wide = channels * expansion
        if expansion != 1:
            self._expand_conv = SameConv(channels, wide, 1, bias=False)
            self._bn0 = create_norm(wide)
        self._depthwise_conv = SameConv(
            wide, wide, kernel_size, stride=stride, dilation=dilation, groups=wide, bias=False
        )
        self._bn1 = create_norm(wide)
        self._project_conv = SameConv(wide, width, 1, bias=False)
        self._bn2 = create_norm(width)
        self.is_residual = published_stride == 1 and channels == width

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = inputs
        if hasattr(self, "_expand_conv"):
            features = F.relu6(self._bn0(self._expand_conv(features)))
        features = F.relu6(self._bn1(self._depthwise_conv(features)))
        features = self._bn2(self._project_conv(features))
        return features + inputs if self.is_residual else features


class EfficientNetLite(nn.Module):
    """The network; its state_dict() has the keys of the published file, in their order."""

    def __init__(self, sizes: Sizes = SMALL, output_stride: int = 32, head_width: int = 1280):
        super().__init__()
        self._conv_stem = SameConv(3, sizes.stem, 3, stride=2, bias=False)
        self._bn0 = create_norm(sizes.stem)
        blocks, self.ends = [], []
        channels, reached, dilation = sizes.stem, 2, 1
        for depth, width, kernel_size, published, expansion in zip(
            sizes.depths,
            sizes.widths,
            sizes.kernel_sizes,
            sizes.strides,
            sizes.expansions,
            strict=True,
        ):
            if published == 2 and blocks:
                self.ends.append(len(blocks) - 1)
            for i in range(depth):
                wanted = published if i == 0 else 1
                is_kept = reached * wanted <= output_stride
                stride = wanted if is_kept else 1
                blocks.append(
                    Block(channels, width, expansion, kernel_size, wanted, stride, dilation)
                )
                reached *= stride
                dilation *= 1 if is_kept else wanted
                channels = width
        self.ends.append(len(blocks) - 1)
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv(channels, head_width, 1, bias=False)
        self._bn1 = create_norm(head_width)
        self._fc = nn.Linear(head_width, 1000)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """[B, 3, H, W] scaled -> features of every stage."""
        features = F.relu6(self._bn0(self._conv_stem(images)))
        outputs = []
        for block in self._blocks:
            features = block(features)
            outputs.append(features)
        return [outputs[end] for end in self.ends]

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Last features -> logits of ImageNet's classes."""
        return self._fc(F.relu6(self._bn1(self._conv_head(features))).mean((2, 3)))


def randomise(network: nn.Module) -> None:
    """Draws parameters, statistics and counters."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            module.num_batches_tracked.random_(1, 10**6)
