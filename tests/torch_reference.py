"""Published training code restated in PyTorch: what alp_jax must compute, written without it.

DeepLabv2 and the discriminator have the published names of parameters, and an iteration runs in
AdvEnt's order, one backward pass after another. Where PyTorch 0.4 behaved otherwise than today
(`RepeatedSGD`), its rule is written out. The demo's small network is here too: two convolutions for
a stem, and basic blocks.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

SOURCE, TARGET = 0.0, 1.0
IGNORE_LABEL = 255
MAIN, AUX = "main", "aux"


class BatchNorm(nn.BatchNorm2d):
    """PyTorch's batch norm, which in training obeys one of three modes.

    "batch" normalises with the batch, "frozen" as in evaluation, "running" with the running
    statistics as they were before this batch, which then moves them as it would in "batch".
    """

    def __init__(self, features: int, mode: str):
        super().__init__(features)
        self.mode = mode

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and self.mode == "batch":
            return super().forward(inputs)
        # Copies, as the backward pass needs the statistics as they are now.
        mean, var = self.running_mean.clone(), self.running_var.clone()
        outputs = F.batch_norm(inputs, mean, var, self.weight, self.bias, eps=self.eps)
        if self.training and self.mode == "running":
            with torch.no_grad():
                unbiased_var, batch_mean = torch.var_mean(inputs, dim=(0, 2, 3), correction=1)
                self.running_mean.mul_(1 - self.momentum).add_(self.momentum * batch_mean)
                self.running_var.mul_(1 - self.momentum).add_(self.momentum * unbiased_var)
        return outputs


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int,
        dilation: int,
        stride_in: str,
        mode: str,
        downsample: nn.Module | None,
    ):
        super().__init__()
        strides = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(inplanes, planes, 1, stride=strides[0], bias=False)
        self.bn1 = BatchNorm(planes, mode)
        self.conv2 = nn.Conv2d(
            planes, planes, 3, stride=strides[1], padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = BatchNorm(planes, mode)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = BatchNorm(4 * planes, mode)
        self.downsample = downsample

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.bn1(self.conv1(inputs)))
        features = torch.relu(self.bn2(self.conv2(features)))
        features = self.bn3(self.conv3(features))
        shortcut = inputs if self.downsample is None else self.downsample(inputs)
        return torch.relu(features + shortcut)


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int,
        dilation: int,
        stride_in: str,
        mode: str,
        downsample: nn.Module | None,
    ):
        super().__init__()
        del stride_in
        padded = {"padding": dilation, "dilation": dilation, "bias": False}
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride=stride, **padded)
        self.bn1 = BatchNorm(planes, mode)
        self.conv2 = nn.Conv2d(planes, planes, 3, **padded)
        self.bn2 = BatchNorm(planes, mode)
        self.downsample = downsample

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        features = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(inputs)))))
        shortcut = inputs if self.downsample is None else self.downsample(inputs)
        return torch.relu(features + shortcut)


BLOCKS = {"bottleneck": Bottleneck, "basic": BasicBlock}


class Classifier(nn.Module):
    """Atrous spatial pyramid: the sum of dilated convolutions."""

    def __init__(self, inplanes: int, dilations: Sequence[int], num_classes: int):
        super().__init__()
        self.conv2d_list = nn.ModuleList(
            nn.Conv2d(inplanes, num_classes, 3, padding=dilation, dilation=dilation)
            for dilation in dilations
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return sum(conv(features) for conv in self.conv2d_list)


class DeepLabV2(nn.Module):
    """layer6 is the main classifier, layer5 that of the multi-level network on the stage before."""

    def __init__(
        self,
        *,
        num_classes: int,
        stem: str,
        stem_widths: Sequence[int],
        block: str,
        depths: Sequence[int],
        widths: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
        classifier_dilations: Sequence[int],
        stride_in: str,
        batch_norm: str,
        train_affine: bool,
        multi_level: bool,
    ):
        super().__init__()
        self.stride_in, self.batch_norm, self.block = stride_in, batch_norm, BLOCKS[block]
        size = 7 if stem == "imagenet" else 3
        self.stem = []
        for i, (inputs, outputs) in enumerate(itertools.pairwise((3, *stem_widths)), start=1):
            conv = nn.Conv2d(inputs, outputs, size, stride=2, padding=size // 2, bias=False)
            self.stem += [self._name(f"conv{i}", conv)]
            self.stem += [self._name(f"bn{i}", BatchNorm(outputs, batch_norm))]
        self.maxpool = None
        if stem == "imagenet":
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)
        self.inplanes = stem_widths[-1]
        stages = zip(depths, widths, strides, dilations, strict=True)
        self.stages = [
            self._name(f"layer{i}", self._stage(*sizes)) for i, sizes in enumerate(stages, start=1)
        ]
        channels = [self.block.expansion * width for width in widths]
        if multi_level:
            self.layer5 = Classifier(channels[-2], classifier_dilations, num_classes)
        self.layer6 = Classifier(channels[-1], classifier_dilations, num_classes)
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.requires_grad_(train_affine)

    def _name(self, name: str, module: nn.Module) -> nn.Module:
        self.add_module(name, module)
        return module

    def _stage(self, depth: int, planes: int, stride: int, dilation: int) -> nn.Sequential:
        blocks, outplanes = [], self.block.expansion * planes
        for block_stride in (stride, *[1] * (depth - 1)):
            downsample = None
            if not blocks:  # The first of a stage, always and only.
                downsample = nn.Sequential(
                    nn.Conv2d(self.inplanes, outplanes, 1, stride=stride, bias=False),
                    BatchNorm(outplanes, self.batch_norm),
                )
            sizes = self.inplanes, planes, block_stride, dilation
            blocks.append(self.block(*sizes, self.stride_in, self.batch_norm, downsample))
            self.inplanes = outplanes
        return nn.Sequential(*blocks)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        features = images
        for conv, norm in zip(self.stem[::2], self.stem[1::2], strict=True):
            features = torch.relu(norm(conv(features)))
        if self.maxpool is not None:
            features = self.maxpool(features)
        for stage in self.stages[:-1]:
            features = stage(features)
        logits = {MAIN: self.layer6(self.stages[-1](features))}
        if hasattr(self, "layer5"):
            logits[AUX] = self.layer5(features)
        return logits

    def backbone_listing(self) -> Iterator[nn.Parameter]:
        """Published `get_1x_lr_params`: walks all modules, so that it names most tensors often."""
        for part in (*self.stem, *self.stages):
            for module in part.modules():
                for parameter in module.parameters():
                    if parameter.requires_grad:
                        yield parameter

    def head_listing(self) -> Iterator[nn.Parameter]:
        """Published `get_10x_lr_params`."""
        if hasattr(self, "layer5"):
            yield from self.layer5.parameters()
        yield from self.layer6.parameters()


def create_discriminator(num_classes: int, widths: Sequence[int]) -> nn.Sequential:
    modules: list[nn.Module] = []
    channels = (num_classes, *widths, 1)
    for inputs, outputs in itertools.pairwise(channels):
        modules += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*modules[:-1])


class RepeatedSGD:
    """SGD of PyTorch 0.4.1: a tensor listed k times is visited k times in a step.

    Weight decay is added to the gradient in place, so that the k-th visit sees it k times.
    """

    def __init__(self, groups: list[dict], *, momentum: float, weight_decay: float):
        self.param_groups = groups
        self.momentum, self.weight_decay = momentum, weight_decay
        self.velocity: dict[nn.Parameter, torch.Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad.add_(parameter, alpha=self.weight_decay)
                if parameter not in self.velocity:
                    self.velocity[parameter] = torch.zeros_like(parameter)
                self.velocity[parameter].mul_(self.momentum).add_(parameter.grad)
                parameter.add_(self.velocity[parameter], alpha=-group["lr"])


@dataclasses.dataclass(frozen=True)
class TargetLoss:
    """A loss of the target's predictions (tests/torch_terms.py).

    Attributes:
      compute: returns it for the logits of a head, [B, K, h, w], and the images' size.
    """

    name: str
    head: str
    weight: float
    compute: Callable[[torch.Tensor, tuple[int, int]], torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Settings:
    """An experiment; the defaults are AdvEnt's.

    Attributes:
      method: "source_only", "target_bn" (target images move statistics, and no more), "ap_ci"
        (crops of images), "agp_gi" (whole maps; AdvEnt) or "alp_gi" (patches of maps).
      patch_size: (height, width) of crops and patches; None: there are none.
      aligned_map: "softmax" (AdaptSegNet), "self_information" in nats (Cicek et al.) or
        "normalized_self_information" (AdvEnt: binary logarithm, over that of the class count).
      game, decision, halved: as in alp_jax/objective/terms/alignment.py.
      cross_entropy_weights, adversarial_weights: by head.
      target_losses: what else is minimised on the target.
      sgd: "reference" (`RepeatedSGD`) or "clean".
      adam: "reference" (`EarlyAdam`) or "clean".
      gradient_clip_norm: of the segmenter's gradient; 0 clips nothing.
    """

    method: str
    patch_size: tuple[int, int] | None
    cross_entropy_weights: dict[str, float]
    adversarial_weights: dict[str, float]
    sgd: str
    adam: str = "reference"
    target_losses: tuple[TargetLoss, ...] = ()
    aligned_map: str = "normalized_self_information"
    game: str = "non_saturating"
    decision: str = "cell"
    halved: bool = True
    segmenter_learning_rate: float = 2.5e-4
    head_multiplier: float = 10.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    gradient_clip_norm: float = 0.0
    discriminator_learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    horizon_steps: int = 250_000
    warmup_steps: int = 0
    power: float = 0.9


class EarlyAdam(torch.optim.Optimizer):
    """Adam as torch/optim/adam.py of PyTorch 0.4 has it: epsilon before the correction."""

    def __init__(self, params, lr: float, betas: tuple[float, float], eps: float):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    state.update(
                        step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p)
                    )
                state["step"] += 1
                state["exp_avg"].mul_(beta1).add_(p.grad, alpha=1 - beta1)
                state["exp_avg_sq"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                denom = state["exp_avg_sq"].sqrt().add_(group["eps"])
                correction = (1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"])
                p.addcdiv_(state["exp_avg"], denom, value=-group["lr"] * correction)


class Trainer:
    """Both players and their optimizers.

    Attributes:
      gradients: after a step, those that the optimizers were given, of each tensor: "segmenter" and
        one entry for each discriminator's head. Empty without `keeps_gradients`, as copying them
        takes time and memory that training does not need.
      accuracies: of the discriminators' decisions in a step; those of the auxiliary head end in
        _aux.
    """

    def __init__(
        self,
        segmenter: DeepLabV2,
        discriminators: dict[str, nn.Module],
        settings: Settings,
        *,
        keeps_gradients: bool = True,
    ):
        self.segmenter, self.discriminators, self.settings = segmenter, discriminators, settings
        self.keeps_gradients = keeps_gradients
        self.gradients: dict[str, dict[str, np.ndarray]] = {}
        self.accuracies: dict[str, float] = {}
        backbone, heads = list(segmenter.backbone_listing()), list(segmenter.head_listing())
        decay = {"momentum": settings.momentum, "weight_decay": settings.weight_decay}
        if settings.sgd == "reference":
            groups = [{"params": backbone, "multiplier": 1.0}]
            create_sgd = RepeatedSGD
        else:
            groups = [{"params": list(dict.fromkeys(backbone)), "multiplier": 1.0}]
            create_sgd = torch.optim.SGD
        groups.append({"params": heads, "multiplier": settings.head_multiplier})
        for group in groups:
            group["lr"] = 0.0  # Set in every step.
        self.sgd = create_sgd(groups, **decay)
        create_adam = EarlyAdam if settings.adam == "reference" else torch.optim.Adam
        self.adams = [
            create_adam(network.parameters(), lr=0.0, betas=settings.betas, eps=settings.eps)
            for network in discriminators.values()
        ]

    def train_step(
        self,
        step: int,
        images: dict[str, torch.Tensor],
        labels: torch.Tensor,
        offsets: dict[str, np.ndarray],
    ) -> dict[str, float]:
        """Runs one iteration.

        Args:
          step: from 0.
          images: [B, 3, H, W] of "source" and "target", as the network takes them.
          labels: [B, H, W] of the source.
          offsets: [B, P, 2] corners of patches in "source" and "target"; {} where there are none.
        Returns:
          Every loss; those of the auxiliary head end in _aux.
        """
        settings = self.settings
        self._set_learning_rates(step)
        self.segmenter.train()
        self.segmenter.zero_grad()
        for network in self.discriminators.values():
            network.zero_grad()
            network.requires_grad_(False)
        if settings.method == "ap_ci":
            labels = cut(labels, offsets["source"], settings.patch_size)
            images = {
                domain: cut(images[domain], offsets[domain], settings.patch_size)
                for domain in images
            }

        losses, total = {}, 0.0
        source_logits = self._predict(images["source"])
        for head, logits in source_logits.items():
            cross_entropy = F.cross_entropy(logits, labels, ignore_index=IGNORE_LABEL)
            losses[_name("cross_entropy", head)] = cross_entropy.item()
            total = total + settings.cross_entropy_weights[head] * cross_entropy
        losses["segmenter"] = total.item()
        # Only the minimax game sends another gradient through the source prediction.
        total.backward(retain_graph=settings.game == "minimax")
        if settings.method == "target_bn":
            with torch.no_grad():
                self.segmenter(images["target"])
        elif settings.method != "source_only":
            self._play(source_logits, images["target"], offsets, losses)

        if self.keeps_gradients:
            networks = {"segmenter": self.segmenter, **self.discriminators}
            self.gradients = {name: _gradients(network) for name, network in networks.items()}
        if settings.gradient_clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.segmenter.parameters(), settings.gradient_clip_norm)
        for optimizer in (self.sgd, *self.adams):
            optimizer.step()
        return losses

    def _play(
        self,
        source_logits: dict[str, torch.Tensor],
        target_images: torch.Tensor,
        offsets: dict[str, np.ndarray],
        losses: dict[str, float],
    ) -> None:
        """Adds the gradients of the target's losses, and of the game with the discriminators."""
        settings = self.settings
        size = tuple(target_images.shape[2:])
        coarse_logits = self.segmenter(target_images)
        target_logits = _upsample(coarse_logits, size)
        maps = {
            head: (
                self._maps(source_logits[head], offsets.get("source")),
                self._maps(target_logits[head], offsets.get("target")),
            )
            for head in self.discriminators
        }
        total = 0.0
        for found in settings.target_losses:
            value = found.compute(coarse_logits[found.head], size)
            losses[found.name] = value.item()
            total = total + found.weight * value
        for head, (source_maps, target_maps) in maps.items():
            target_decisions = self._decide(head, target_maps)
            if settings.game != "minimax":
                adversarial = self._score(target_decisions, SOURCE)
            else:
                source_decisions = self._decide(head, source_maps)
                adversarial = -binary_cross_entropy(source_decisions, SOURCE)
                adversarial = adversarial - binary_cross_entropy(target_decisions, TARGET)
            losses[_name("adversarial", head)] = adversarial.item()
            total = total + settings.adversarial_weights[head] * adversarial
        losses["segmenter"] += total.item()
        total.backward()

        weight = 0.5 if settings.halved and settings.game != "minimax" else 1.0
        threshold = 0.5 if settings.game == "least_squares" else 0.0
        for head, (source_maps, target_maps) in maps.items():
            self.discriminators[head].requires_grad_(True)
            source_decisions = self._decide(head, source_maps.detach())
            target_decisions = self._decide(head, target_maps.detach())
            source_loss = self._score(source_decisions, SOURCE)
            target_loss = self._score(target_decisions, TARGET)
            self.accuracies[_name("source", head)] = _share(source_decisions <= threshold)
            self.accuracies[_name("target", head)] = _share(target_decisions > threshold)
            (weight * source_loss).backward()
            (weight * target_loss).backward()
            losses[_name("discriminator_source", head)] = source_loss.item()
            losses[_name("discriminator_target", head)] = target_loss.item()
            losses[_name("discriminator", head)] = weight * (source_loss + target_loss).item()

    def _set_learning_rates(self, step: int) -> None:
        settings = self.settings
        decay = (1 - step / settings.horizon_steps) ** settings.power
        if step < settings.warmup_steps:
            decay = step / settings.warmup_steps
        for group in self.sgd.param_groups:
            group["lr"] = settings.segmenter_learning_rate * decay * group["multiplier"]
        for adam in self.adams:
            adam.param_groups[0]["lr"] = settings.discriminator_learning_rate * decay

    def _predict(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return _upsample(self.segmenter(images), tuple(images.shape[2:]))

    def _maps(self, logits: torch.Tensor, offsets: np.ndarray | None) -> torch.Tensor:
        maps = compute_map(logits, self.settings.aligned_map)
        if self.settings.method == "alp_gi":
            maps = cut(maps, offsets, self.settings.patch_size)
        return maps

    def _score(self, decisions: torch.Tensor, domain: float) -> torch.Tensor:
        if self.settings.game == "least_squares":
            return F.mse_loss(decisions, torch.full_like(decisions, domain))
        return binary_cross_entropy(decisions, domain)

    def _decide(self, head: str, maps: torch.Tensor) -> torch.Tensor:
        decisions = self.discriminators[head](maps)
        return decisions.mean(dim=(2, 3)) if self.settings.decision == "patch" else decisions


def _upsample(logits: dict[str, torch.Tensor], size: tuple[int, int]) -> dict[str, torch.Tensor]:
    return {
        head: F.interpolate(found, size, mode="bilinear", align_corners=True)
        for head, found in logits.items()
    }


def compute_map(logits: torch.Tensor, kind: str) -> torch.Tensor:
    """Computes p, -p log p (in nats or as AdvEnt normalises it) or logits of [B, C, H, W]."""
    if kind == "logits":
        return logits
    probs = F.softmax(logits, dim=1)
    if kind == "softmax":
        return probs
    if kind == "self_information":
        return -probs * F.log_softmax(logits, dim=1)
    assert kind == "normalized_self_information", kind
    return -probs * torch.log2(probs + 1e-30) / np.log2(probs.shape[1])


def binary_cross_entropy(decisions: torch.Tensor, domain: float) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(decisions, torch.full_like(decisions, domain))


def cut(arrays: torch.Tensor, offsets: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Cuts patches out of [B, ..., H, W], those of the first image first."""
    return torch.stack(
        [
            arrays[image, ..., y : y + size[0], x : x + size[1]]
            for image, corners in enumerate(offsets)
            for y, x in corners
        ]
    )


def _name(loss: str, head: str) -> str:
    return loss + ("" if head == MAIN else f"_{head}")


def _share(right: torch.Tensor) -> float:
    return right.double().mean().item()


def _gradients(network: nn.Module) -> dict[str, np.ndarray]:
    return {
        name: parameter.grad.numpy().copy()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
