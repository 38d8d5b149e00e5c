"""Declares the settings of the optimizers: config.optimizer."""

import dataclasses
from typing import Literal

from alp_jax.settings.schema import setting

Preset = Literal["reference", "clean"]


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """The optimizers: SGD for the segmenter, Adam or SGD for what terms own (discriminators)."""

    segmenter_learning_rate: float = setting(
        2.5e-4, "Initial learning rate of the backbone.", at_least=0
    )
    classifier_learning_rate_multiplier: float = setting(
        10.0, "Learning rate of the decoders as a multiple of the backbone's (AdvEnt).", at_least=0
    )
    sgd_preset: Preset = setting(
        "reference",
        "How often SGD visits a parameter of the backbone in a step: as often as published code "
        "lists it in its optimizer, three or four times (reference, AdvEnt; the learning rates, "
        "which the paper shares, were chosen with that), or once (clean).",
    )
    momentum: float = setting(0.9, "Momentum of SGD (AdvEnt).", at_least=0, below=1)
    weight_decay: float = setting(
        5e-4,
        "Weight decay of SGD, which is added to the gradient as in PyTorch (AdvEnt).",
        at_least=0,
    )
    gradient_clip_norm: float = setting(
        0.0, "Largest global norm of the segmenter's gradient; 0 clips nothing.", at_least=0
    )
    discriminator_learning_rate: float = setting(
        1e-4, "Initial learning rate of discriminators.", at_least=0
    )
    discriminator_optimizer: Literal["adam", "sgd"] = setting(
        "adam",
        "Optimizer of discriminators: Adam (AdvEnt), or SGD with the segmenter's momentum and "
        "weight decay (sgd, CyCADA).",
    )
    adam_preset: Preset = setting(
        "reference",
        "Place of Adam's epsilon: added to the root before the correction for the start, as in "
        "PyTorch before 1.3, for which published code was written (reference), or after it, as "
        "today (clean).",
    )
    adam_b1: float = setting(
        0.9, "Decay of Adam's mean of gradients (AdvEnt).", at_least=0, below=1
    )
    adam_b2: float = setting(
        0.99, "Decay of Adam's mean of squared gradients (AdvEnt).", at_least=0, below=1
    )
    adam_eps: float = setting(
        1e-8, "Added to the root of Adam's mean of squares (AdvEnt).", at_least=0
    )
    poly_power: float = setting(
        0.9,
        "Power of the schedule of both rates, initial * (1 - step / horizon_steps) ** power "
        "(AdvEnt).",
        at_least=0,
    )
    horizon_steps: int = setting(
        250_000, "Steps at which the learning rates reach 0 (AdvEnt).", at_least=1
    )
    warmup_steps: int = setting(
        0, "Steps in which both rates rise from 0 along a line (CLAN); 0: none.", at_least=0
    )
