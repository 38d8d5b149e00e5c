"""Declares the settings of self-training in rounds: config.rounds.

Zou et al., "Unsupervised Domain Adaptation for Semantic Segmentation via Class-Balanced
Self-Training", ECCV 2018 (CBST), and "Confidence Regularized Self-Training", ICCV 2019 (CRST). The
defaults are those of CRST's published code (yzou2/CRST, crst_seg.py), but for the number of rounds.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal

from alp_jax.settings.schema import Size, refuse, setting

# Domain of a batch that mixes source images and pseudo-labelled target images.
SELF_TRAINING = "self_training"
# The number of scales between two whole numbers, as in CRST's code: 0.5, 0.6, ..., 1.5.
SCALES_PER_UNIT = 10


@dataclasses.dataclass(frozen=True)
class RoundsSettings:
    """Settings of rounds: pseudo-labels of the whole target, then training on them."""

    num_rounds: int = setting(
        0, "Rounds of pseudo-labels and training; 0: no self-training.", at_least=0
    )
    steps_per_round: int = setting(
        3624,
        "Train steps of a round. CRST: 2 epochs of 2,975 target and 599 to 699 source images in "
        "batches of 2, 3,574 to 3,674 steps.",
        at_least=1,
    )
    balance: Literal["class", "global"] = setting(
        "class",
        "Thresholds of the confidence: one for each class (class, CBST), or one for all (global, "
        "ST).",
    )
    portion: float = setting(
        0.2,
        "Share of the target's pixels, of each class or of all, that is labelled in the first "
        "round.",
        above=0,
        at_most=1,
    )
    portion_step: float = setting(0.05, "Added to portion in each further round.", at_least=0)
    portion_most: float = setting(0.5, "Largest portion.", above=0, at_most=1)
    confidence_stride: int = setting(
        4,
        "Of the pixels of a class in an image, every how many counts for its threshold.",
        at_least=1,
    )
    prediction_scales: tuple[float, ...] = setting(
        (0.9,),
        "Factors of target_size at which images are predicted for pseudo-labels; probabilities "
        "are averaged.",
        above=0,
        below=100,
        non_empty=True,
    )
    prediction_flip: bool = setting(
        True, "Whether the mirrored image is predicted for pseudo-labels, too."
    )
    prior: Literal["none", "spatial"] = setting(
        "none",
        "Factor of the probabilities for pseudo-labels: none, or how frequent a class is at a "
        "pixel's position in the source's labels (spatial, CBST-SP).",
    )
    prior_blur: int = setting(
        0,
        "Side of the Gaussian kernel that smooths the counts of the spatial prior, pixels of "
        "target_size; 0 smooths nothing.",
        at_least=0,
    )
    source_portion: float = setting(
        0.03,
        "Share of the source's images, drawn anew for each round, in the first one.",
        at_least=0,
        at_most=1,
    )
    source_portion_step: float = setting(
        0.0025, "Added to source_portion in each further round.", at_least=0
    )
    source_portion_most: float = setting(0.06, "Largest source_portion.", at_least=0, at_most=1)
    crop_size: Size = setting((512, 1024), "(height, width) of training images, pixels.")
    scale_range: tuple[float, float] = setting(
        (0.5, 1.5),
        "Least and largest factor by which a training image is resized before it is cropped, in "
        "steps of 0.1.",
        above=0,
    )
    mirror_probability: float = setting(
        0.5, "Probability that a training image is mirrored.", at_least=0, at_most=1
    )
    mined_share: float = setting(
        1e-3,
        "Classes with a smaller share of the predicted pixels are mined: crops are laid around "
        "their pixels.",
        at_least=0,
        at_most=1,
    )
    mining_probability: float = setting(
        0.8,
        "Probability that a target image with pixels of mined classes is cropped around one.",
        at_least=0,
        at_most=1,
    )

    def check(self, name: str) -> None:
        """Refuses a range of scales that holds none, and an even kernel."""
        low, high = self.scale_range
        if low > high:
            refuse(f"{name}.scale_range", self.scale_range, "the least factor first")
        if self.prior_blur and self.prior_blur % 2 == 0:
            refuse(f"{name}.prior_blur", self.prior_blur, "0 or an odd number of pixels")

    @property
    def num_steps(self) -> int:
        """Train steps of all rounds."""
        return self.num_rounds * self.steps_per_round

    def find_round(self, step: int) -> int:
        """Returns the round that a step, counted from 0, belongs to."""
        return step // self.steps_per_round

    def find_portion(self, number: int) -> float:
        """Returns the share of pixels that is labelled in a round."""
        return _advance(self.portion, self.portion_step, self.portion_most, number)

    def find_source_portion(self, number: int) -> float:
        """Returns the share of source images that is drawn in a round."""
        return _advance(
            self.source_portion, self.source_portion_step, self.source_portion_most, number
        )


def list_read(domains: Iterable[str]) -> tuple[str, ...]:
    """Lists the domains whose datasets are read for the domains of a batch."""
    found = {
        name
        for domain in domains
        for name in (("source", "target") if domain == SELF_TRAINING else (domain,))
    }
    return tuple(sorted(found))


def _advance(first: float, step: float, most: float, number: int) -> float:
    """Adds a step `number` times, as published code does: its sums decide which rank is taken."""
    value = first
    for _ in range(number):
        value = min(value + step, most)
    return value
