"""The networks whose weights are published, small and random, in PyTorch: what files must mean.

The backbone is that of tests/torch_reference.py. What each code base does with its classifiers and
pixels is written out here.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from tests import torch_reference
from tests.torch_reference import AUX, MAIN, Classifier

STEM_WIDTH, DEPTHS, WIDTHS = 5, (1, 2, 1, 1), (4, 4, 6, 8)
DILATIONS = (6, 12, 18, 24)
CAFFE_MEAN = (104.00698793, 116.66876762, 122.67891434)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FirstTwoBranches(Classifier):
    """AdaptSegNet's: its loop over the branches returns after the second."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv2d_list[0](features) + self.conv2d_list[1](features)


class Network(torch_reference.DeepLabV2):
    """The network of a layout; its state_dict() has the keys of the published file."""

    def __init__(self, layout: str, num_classes: int = 19, sizes: Sequence = ()):
        stem_width, depths, widths = sizes or (STEM_WIDTH, DEPTHS, WIDTHS)
        super().__init__(
            num_classes=num_classes,
            stem="imagenet",
            stem_widths=(stem_width,),
            block="bottleneck",
            depths=depths,
            widths=widths,
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4),
            classifier_dilations=DILATIONS,
            stride_in="3x3" if layout == "torchvision" else "1x1",
            batch_norm="running",
            train_affine=False,
            multi_level=False,
        )
        self.layout = layout
        del self.layer6
        kind = FirstTwoBranches if layout.startswith("adaptsegnet") else Classifier
        stage3, stage4 = 4 * widths[2], 4 * widths[3]
        if layout in ("advent", "adaptsegnet"):
            self.layer5 = kind(stage3, DILATIONS, num_classes)
        elif layout in ("adaptsegnet_single", "crst", "clan"):
            self.layer5 = kind(stage4, DILATIONS, num_classes)
        elif layout == "caffe_init":
            self.layer5 = kind(stage4, DILATIONS, 21)
        if layout in ("advent", "adaptsegnet", "advent_single", "clan"):
            self.layer6 = kind(stage4, DILATIONS, num_classes)
        if layout == "torchvision":
            self.fc = nn.Linear(stage4, 1000)

    def forward(self, images: np.ndarray) -> dict[str, torch.Tensor]:
        """[B, H, W, 3] uint8 RGB -> logits [B, h, w, C]; of a backbone "features"."""
        pixels = torch.from_numpy(images).to(torch.float32)
        if self.layout in ("torchvision", "crst"):
            pixels = (pixels / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
        else:
            pixels = pixels.flip(-1) - torch.tensor(CAFFE_MEAN)
        stem = self.maxpool(torch.relu(self.bn1(self.conv1(pixels.permute(0, 3, 1, 2)))))
        stage3 = self.layer3(self.layer2(self.layer1(stem)))
        stage4 = self.layer4(stage3)
        match self.layout:
            case "torchvision" | "caffe_init":
                outputs = {"features": stage4}
            case "advent" | "adaptsegnet":
                outputs = {AUX: self.layer5(stage3), MAIN: self.layer6(stage4)}
            case "advent_single":
                outputs = {MAIN: self.layer6(stage4)}
            case "adaptsegnet_single" | "crst":
                outputs = {MAIN: self.layer5(stage4)}
            case "clan":
                outputs = {MAIN: self.layer5(stage4) + self.layer6(stage4)}
        return {name: output.permute(0, 2, 3, 1) for name, output in outputs.items()}


def create(layout: str, num_classes: int = 19) -> Network:
    """A network with random parameters, statistics and counters."""
    torch.manual_seed(0)
    network = Network(layout, num_classes).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            module.num_batches_tracked.random_(1, 10**6)
    return network
