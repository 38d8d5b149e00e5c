"""CLAN's and MCD's published training loops restated in PyTorch, for tests/test_two_classifiers.py.

  clan = Clan(settings, start, np.float64)
  losses = clan.step(batch)

The network is DeepLabv2 with two classifiers on the last stage: layer6 is the head main, layer5 the
head second. Written from CLAN_train.py, utils/loss.py (RoyalVane/CLAN) and
segmentation/adapt_trainer.py (mil-tokyo/MCD_DA).
"""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from alp_jax.data.labels import load_label_set
from alp_jax.data.samples import Batch
from alp_jax.objective import state
from alp_jax.workdir.settings import RunSettings
from tests import torch_reference, torch_run
from tests.torch_reference import SOURCE, TARGET
from tests.torch_run import SEGMENTER, Tensors

IGNORE_LABEL = 255


class TwoClassifiers(torch_reference.DeepLabV2):
    """DeepLabv2 whose layer5 reads the same features as layer6."""

    def __init__(self, **arguments: Any):
        super().__init__(**arguments, multi_level=False)
        channels = self.block.expansion * arguments["widths"][-1]
        self.layer5 = torch_reference.Classifier(
            channels, arguments["classifier_dilations"], arguments["num_classes"]
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Upsampled logits of layer6 and layer5."""
        features = images
        for conv, norm in zip(self.stem[::2], self.stem[1::2], strict=True):
            features = torch.relu(norm(conv(features)))
        if self.maxpool is not None:
            features = self.maxpool(features)
        for stage in self.stages:
            features = stage(features)
        first, second = (
            F.interpolate(layer(features), images.shape[2:], mode="bilinear", align_corners=True)
            for layer in (self.layer6, self.layer5)
        )
        return first, second


class Loop:
    """What both loops share: network, start, images."""

    def __init__(self, settings: RunSettings, start: state.TrainState, dtype: type):
        self.settings, self.dtype, self.num_steps = settings, dtype, 0
        arguments = torch_run.torch_segmenter_arguments(settings)
        arguments.pop("multi_level")
        self.network = TwoClassifiers(**arguments)
        self.double = torch.float64 if dtype == np.float64 else torch.float32
        self.network.to(self.double)
        torch_run.fill(self.network, player_tensors(start)[SEGMENTER])
        self.network.train()
        self.classes = load_label_set(settings.data.label_set).num_classes

    def images(self, batch: Batch, domain: str) -> torch.Tensor:
        model = self.settings.model
        images = np.asarray(batch[domain].images)
        ordered = images[..., ::-1] if model.input_order == "bgr" else images
        mean, std = (np.array(v, self.dtype) for v in (model.input_mean, model.input_std))
        scaled = (ordered.astype(self.dtype) - mean) / std
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(scaled, 3, 1)))

    def groups(self, *listings: tuple[list, float]) -> list[dict]:
        return [
            {"params": list(dict.fromkeys(listing)), "lr": 0.0, "multiplier": multiplier}
            for listing, multiplier in listings
        ]

    def set_rates(self, optimizer: torch.optim.Optimizer, base: float) -> None:
        """Poly, after CLAN's linear warm-up."""
        rates = self.settings.optimizer
        factor = (1 - self.num_steps / rates.horizon_steps) ** rates.poly_power
        if self.num_steps < rates.warmup_steps:
            factor = self.num_steps / rates.warmup_steps
        for group in optimizer.param_groups:
            group["lr"] = base * factor * group.get("multiplier", 1.0)

    def tensors(self) -> Tensors:
        return {
            name: tensor.detach().numpy().copy()
            for name, tensor in self.network.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }


class Clan(Loop):
    """CLAN_train.py."""

    def __init__(self, settings: RunSettings, start: state.TrainState, dtype: type):
        super().__init__(settings, start, dtype)
        rates, alignment = settings.optimizer, settings.terms["adversarial"]
        self.discriminator = torch_reference.create_discriminator(self.classes, alignment.widths)
        self.discriminator.to(self.double)
        torch_run.fill(self.discriminator, player_tensors(start)["main"])
        heads = (list(self.network.head_listing()), rates.classifier_learning_rate_multiplier)
        backbone = (list(self.network.backbone_listing()), 1.0)
        self.sgd = torch.optim.SGD(
            self.groups(backbone, heads),
            lr=0.0,
            momentum=rates.momentum,
            weight_decay=rates.weight_decay,
        )
        self.adam = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=0.0,
            betas=(rates.adam_b1, rates.adam_b2),
            eps=rates.adam_eps,
        )

    def step(self, batch: Batch) -> dict[str, float]:
        terms, step = self.settings.terms, self.num_steps
        alignment = terms["adversarial"]
        damping = 1 - step / alignment.damping_steps
        self.sgd.zero_grad()
        self.adam.zero_grad()
        self.set_rates(self.sgd, self.settings.optimizer.segmenter_learning_rate)
        self.set_rates(self.adam, self.settings.optimizer.discriminator_learning_rate)
        self.discriminator.requires_grad_(False)

        labels = torch.from_numpy(np.asarray(batch["source"].labels)).long()
        source = self.network(self.images(batch, "source"))
        segmented = [focal(logits, labels) for logits in source]
        sum(segmented).backward()

        target = self.network(self.images(batch, "target"))
        disagreement = weightmap(*(F.softmax(logits, dim=1) for logits in target))
        weighted = step > alignment.pixel_weights.after_step
        decisions = self.decide(F.softmax(target[0] + target[1], dim=1))
        adversarial = self.bce(decisions, SOURCE, disagreement if weighted else None)
        (alignment.weight * damping * adversarial).backward()

        vectors = [
            torch.cat([p.view(-1) for p in layer.parameters()])
            for layer in (self.network.layer5, self.network.layer6)
        ]
        cosine = vectors[0] @ vectors[1] / (vectors[0].norm() * vectors[1].norm()) + 1
        (terms["weight_cosine"].weight * damping * cosine).backward()

        self.discriminator.requires_grad_(True)
        on_source = self.decide(F.softmax(source[0] + source[1], dim=1).detach())
        on_target = self.decide(F.softmax(target[0] + target[1], dim=1).detach())
        source_loss = self.bce(on_source, SOURCE, None)
        target_loss = self.bce(on_target, TARGET, disagreement.detach() if weighted else None)
        source_loss.backward()
        target_loss.backward()
        self.sgd.step()
        self.adam.step()
        self.num_steps += 1
        return {
            "loss/focal": segmented[0].item(),
            "loss/focal_second": segmented[1].item(),
            "loss/adversarial": adversarial.item(),
            "loss/weight_cosine": cosine.item(),
            "loss/discriminator_source": source_loss.item(),
            "loss/discriminator_target": target_loss.item(),
            "loss/discriminator": (source_loss + target_loss).item(),
        }

    def decide(self, maps: torch.Tensor) -> torch.Tensor:
        decisions = self.discriminator(maps)
        return F.interpolate(decisions, maps.shape[2:], mode="bilinear", align_corners=True)

    def bce(
        self, decisions: torch.Tensor, domain: float, weights: torch.Tensor | None
    ) -> torch.Tensor:
        labels = torch.full_like(decisions, domain)
        loss = F.binary_cross_entropy_with_logits(decisions, labels, reduction="none")
        if weights is not None:
            found = self.settings.terms["adversarial"].pixel_weights
            loss = found.floor * loss + found.factor * loss * weights
        return loss.mean()


def focal(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """CLAN's CrossEntropy2d: every labelled pixel of the batch counts alike."""
    probs = F.softmax(logits, dim=1).clamp(1e-9, 1 - 1e-9).movedim(1, -1)
    known = labels != IGNORE_LABEL
    chosen = probs[known].gather(1, labels[known][:, None])
    return (-((1 - chosen) ** 2) * chosen.log()).mean()


def weightmap(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    lengths = torch.linalg.vector_norm(first, dim=1) * torch.linalg.vector_norm(second, dim=1)
    return 1.0 - ((first * second).sum(1) / lengths)[:, None]


class Mcd(Loop):
    """adapt_trainer.py: G is the backbone, F1 and F2 are the two classifiers."""

    def __init__(self, settings: RunSettings, start: state.TrainState, dtype: type):
        super().__init__(settings, start, dtype)
        rates = settings.optimizer
        multiplier = rates.classifier_learning_rate_multiplier
        self.optimizer_g, self.optimizer_f = (
            torch.optim.SGD(
                self.groups(listing),
                lr=0.0,
                momentum=rates.momentum,
                weight_decay=rates.weight_decay,
            )
            for listing in (
                (list(self.network.backbone_listing()), 1.0),
                (list(self.network.head_listing()), multiplier),
            )
        )

    def step(self, batch: Batch) -> dict[str, float]:
        labels = torch.from_numpy(np.asarray(batch["source"].labels)).long()
        images = {domain: self.images(batch, domain) for domain in ("source", "target")}
        for optimizer in (self.optimizer_g, self.optimizer_f):
            self.set_rates(optimizer, self.settings.optimizer.segmenter_learning_rate)

        self.network.zero_grad()
        first = self.supervise(images["source"], labels)
        sum(first).backward()
        self.optimizer_g.step()
        self.optimizer_f.step()

        self.network.zero_grad()
        loss = sum(self.supervise(images["source"], labels))
        disputed = self.discrepancy(images["target"])
        (loss - disputed).backward()
        self.optimizer_f.step()

        for _ in range(self.settings.updates.backbone_updates):
            self.network.zero_grad()
            self.discrepancy(images["target"]).backward()
            self.optimizer_g.step()
        self.num_steps += 1
        return {
            "loss/cross_entropy": first[0].item(),
            "loss/cross_entropy_second": first[1].item(),
            "loss/discrepancy": disputed.item(),
        }

    def supervise(self, images: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
        return [
            F.cross_entropy(logits, labels, ignore_index=IGNORE_LABEL)
            for logits in self.network(images)
        ]

    def discrepancy(self, images: torch.Tensor) -> torch.Tensor:
        first, second = (F.softmax(logits, dim=1) for logits in self.network(images))
        return torch.mean(torch.abs(first - second))


def player_tensors(entry: state.TrainState) -> dict[str, Tensors]:
    """As torch_run.player_tensors; the head second is layer5."""
    return {
        player: {
            name.replace("second.classifier.", "layer5.conv2d_list."): tensor
            for name, tensor in tensors.items()
        }
        for player, tensors in torch_run.player_tensors(entry).items()
    }
