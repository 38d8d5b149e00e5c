"""Aligns source and target maps adversarially: Eqs. (2) to (4) of Cicek et al., ACCV 2020.

On randomly placed patches of the prediction this is the paper's method (ALP-GI); on whole maps it
is AGP-GI, AdvEnt and AdaptSegNet.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from alp_jax.models.discriminator import DomainDiscriminator, min_input_size
from alp_jax.models.layers import ActivationDtype
from alp_jax.models.segmenter import MAIN
from alp_jax.objective import checks, losses, maps
from alp_jax.objective.types import (
    SOURCE,
    TARGET,
    Contribution,
    Curve,
    Scalars,
    Seen,
    Surroundings,
    Term,
    Watch,
)
from alp_jax.settings.schema import block, refuse, setting

PyTree = Any

_NAME = "adversarial"


@dataclasses.dataclass(frozen=True)
class Alignment(Term):
    """Aligns the maps of two views by a discriminator that the term owns.

    The discriminator's and the segmenter's losses are taken on the same patches, at the parameters
    before the step; no gradient of one player's loss reaches the other's parameters.
    """

    weight: float = setting(0.001, "Factor of the loss; lambda of Eq. (4).", at_least=0)
    head: str = setting(MAIN, "Head whose prediction is aligned.")
    source_view: str = setting(SOURCE, "View with the role of the source.")
    target_view: str = setting(TARGET, "View with the role of the target.")
    aligned_map: maps.MapKind = setting(
        "self_information",
        "Input of the discriminator: -p log p in nats (self_information, the paper), the same "
        "divided by log K (normalized_self_information, AdvEnt), p (softmax, AdaptSegNet), or the "
        "scores themselves (logits, CyCADA).",
    )
    patches: Any = block(
        "alp_jax.objective.placements",
        "PLACEMENT",
        "Patches of the map that are aligned: random ones (ALP-GI) or the whole map (AGP-GI).",
        default_kind="random",
    )
    decision: Literal["cell", "patch"] = setting(
        "cell",
        "One score for each cell of the discriminator's output (cell, AdvEnt's code), or for each "
        "patch, the mean of its cells (patch, the paper's text).",
    )
    game: Literal["non_saturating", "minimax"] = setting(
        "non_saturating",
        "Losses of the two players. non_saturating: the segmenter raises the source score of "
        "target maps only, and the discriminator's loss is halved (AdvEnt's code). minimax: Eq. "
        "(4) to the letter.",
    )
    widths: tuple[int, ...] = setting(
        (64, 128, 256, 512),
        "Channels of the discriminator's 4x4 convolutions of stride 2, without the last, which "
        "has 1.",
        at_least=1,
        non_empty=True,
    )
    activation_dtype: ActivationDtype = setting(
        "float32", "Type of the discriminator's activations; parameters stay in single precision."
    )
    watch_patience: int = setting(
        20,
        "Consecutive lines of metrics.jsonl with the discriminator's accuracy at 1 or 1/2 before a "
        "warning; 0 never warns.",
        at_least=0,
        operational=True,
    )
    watch_tolerance: float = setting(
        0.005,
        "Distance from 1 or 1/2 within which the accuracy counts as being there.",
        at_least=0,
        operational=True,
    )
    owns_parameters: ClassVar[bool] = True

    @property
    def views(self) -> tuple[str, ...]:
        """The two views whose maps are aligned."""
        return self.source_view, self.target_view

    @property
    def heads(self) -> tuple[str, ...]:
        """The head whose prediction is aligned."""
        return (self.head,)

    @property
    def key(self) -> str:
        """The term's name without the prefix "adversarial"; "main" if nothing is left."""
        return self.name.removeprefix(_NAME).lstrip("_") or MAIN

    @property
    def curves(self) -> tuple[Curve, ...]:
        """Both players' losses, and the discriminator's accuracy."""
        suffix, which = self.suffix, "" if self.key == MAIN else f", {self.key}"
        return (
            Curve(f"adversarial loss{which} (nats)", (f"loss/{self.name}",), short=f"adv{suffix}"),
            Curve(
                f"discriminator's loss{which} (nats)",
                (f"loss/discriminator{suffix}",),
                short=f"disc{suffix}",
            ),
            Curve(f"discriminator's accuracy{which} (%)", self.accuracies, scale=100),
        )

    @property
    def accuracies(self) -> tuple[str, ...]:
        """Names of the discriminator's accuracies."""
        return tuple(f"discriminator_accuracy/{side}{self.suffix}" for side in (SOURCE, TARGET))

    @property
    def suffix(self) -> str:
        """Suffix of the names of the discriminator's scalars."""
        return "" if self.key == MAIN else f"_{self.key}"

    @property
    def _discriminator(self) -> DomainDiscriminator:
        return DomainDiscriminator.create(self.widths, self.activation_dtype)

    def check_fit(self, name: str, surroundings: Surroundings) -> None:
        """Refuses patches larger than the maps, or too small for the discriminator."""
        smallest = min_input_size(self.widths)
        layers = len(self.widths) + 1
        enough = (
            f"at least {smallest}x{smallest}, below which the discriminator's {layers} stride-2 "
            f"layers leave nothing to decide; use a larger patch or fewer {name}.widths"
        )
        for view in self.views:
            place = f"{name}.patches"
            found = self.patches.get_patch_size(place, view, surroundings.sizes[view])
            size = checks.check_patch_size(found, place)
            if min(size) < smallest:
                refuse(f"{name}: the size of a patch of the view {view}", size, enough)

    def watch(self) -> Watch:
        """Creates a watch on the discriminator's accuracy."""
        return DiscriminatorWatch(self)

    def create(self, key: jax.Array, num_classes: int) -> PyTree:
        """Creates the discriminator's parameters."""
        return self._discriminator.init(key, num_classes)

    def loss(self, seen: Seen) -> Contribution:
        """Computes the segmenter's adversarial loss on one view's maps."""
        aligned = self._compute_maps(seen)
        domain = losses.SOURCE_LABEL if seen.view == self.source_view else losses.TARGET_LABEL
        if domain == losses.SOURCE_LABEL and self.game == "non_saturating":
            return Contribution(kept=aligned)
        domain_logits = self._decide(seen.own, aligned)
        if self.game == "non_saturating":
            value = losses.domain_cross_entropy(domain_logits, losses.SOURCE_LABEL)
        else:
            value = -losses.domain_cross_entropy(domain_logits, domain)
        return Contribution(value, {f"loss/{self.name}": value}, aligned)

    def own_loss(self, own: PyTree, kept: Mapping[str, PyTree]) -> tuple[jax.Array, Scalars]:
        """Computes the discriminator's loss on the kept maps of both views."""
        source_logits = self._decide(own, kept[self.source_view])
        target_logits = self._decide(own, kept[self.target_view])
        source_loss = losses.domain_cross_entropy(source_logits, losses.SOURCE_LABEL)
        target_loss = losses.domain_cross_entropy(target_logits, losses.TARGET_LABEL)
        loss = (0.5 if self.game == "non_saturating" else 1.0) * (source_loss + target_loss)
        scalars = {
            "loss/discriminator": loss,
            "loss/discriminator_source": source_loss,
            "loss/discriminator_target": target_loss,
            "discriminator_accuracy/source": losses.domain_accuracy(
                source_logits, losses.SOURCE_LABEL
            ),
            "discriminator_accuracy/target": losses.domain_accuracy(
                target_logits, losses.TARGET_LABEL
            ),
        }
        return loss, {name + self.suffix: value for name, value in scalars.items()}

    def _compute_maps(self, seen: Seen) -> jax.Array:
        """Computes g(h(f(x))): maps at the images' size, whole or as random patches."""
        logits = seen.outputs.logits[self.head]
        height, width = seen.sample.images.shape[1:3]
        taken = checks.check_patches(
            self.patches,
            self.patches.take(logits, (height, width), seen.key),
            logits,
            (height, width),
            f"config.terms.{self.name}.patches",
        )
        return maps.compute_map(taken, self.aligned_map)

    def _decide(self, own: PyTree, aligned: jax.Array) -> jax.Array:
        """Computes domain logits: one per cell, or the mean over each patch."""
        domain_logits = self._discriminator.apply(own, aligned)
        if self.decision == "patch" and domain_logits.size > 0:
            domain_logits = jnp.mean(domain_logits, axis=(1, 2))
        return domain_logits


class DiscriminatorWatch(Watch):
    """Warns when the discriminator has won, or collapsed, in several consecutive reports.

    The accuracy is the mean over both domains. At 1 the discriminator separates them without
    effort, and the segmenter hardly gets a gradient. At 1/2 it cannot tell them apart, and the
    segmenter has nothing to learn from.
    """

    def __init__(self, term: Alignment):
        """Creates the watch of a term, with all counts at 0."""
        self._term = term
        self._count = dict.fromkeys(_WARNINGS, 0)

    def update(self, step: int, averages: Mapping[str, float]) -> str | None:
        """Returns a warning once for each series of reports with the accuracy at 1 or 1/2."""
        names = self._term.accuracies
        if self._term.watch_patience == 0 or not all(name in averages for name in names):
            return None
        accuracy = sum(averages[name] for name in names) / len(names)
        warning = None
        for pinned in self._count:
            is_there = abs(accuracy - pinned) <= self._term.watch_tolerance
            self._count[pinned] = self._count[pinned] + 1 if is_there else 0
            if self._count[pinned] == self._term.watch_patience:
                block_name = f"config.terms.{self._term.name}"
                reports = f"the last {self._term.watch_patience} reports to step {step}"
                warning = _WARNINGS[pinned].format(term=block_name, reports=reports)
        return warning


# Accuracy -> warning for a series of reports with that accuracy.
_WARNINGS = {
    1.0: (
        "The discriminator has won: its accuracy was 1.0 in {reports}, so that the segmenter "
        "learns little from it; try smaller patches ({term}.patches), fewer {term}.widths, a lower "
        "config.optimizer.discriminator_learning_rate, or an earlier checkpoint."
    ),
    0.5: (
        "The discriminator has collapsed: its accuracy was 0.5 in {reports}, so that there is "
        "nothing to align by; try a higher config.optimizer.discriminator_learning_rate, larger "
        "patches ({term}.patches), or a lower {term}.weight."
    ),
}

TERM = Alignment
