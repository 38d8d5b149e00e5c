"""Aligns source and target maps adversarially: Eqs. (2) to (4) of Cicek et al., ACCV 2020.

On randomly placed patches of the prediction this is the paper's method (ALP-GI); on whole maps it
is AGP-GI, AdvEnt and AdaptSegNet.
"""

import dataclasses
import functools
import operator
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from alp_jax.models.discriminator import DomainDiscriminator, min_input_size
from alp_jax.models.layers import ActivationDtype
from alp_jax.models.segmenter import MAIN, split_heads
from alp_jax.objective import checks, losses, maps, patches
from alp_jax.objective.discriminator_watch import DiscriminatorWatch
from alp_jax.objective.pixel_weighting import PixelWeights
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
    head: str = setting(
        MAIN,
        "Head whose prediction is aligned, or several joined by +, whose logits are summed (CLAN).",
    )
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
    decision: Literal["cell", "patch", "pixel"] = setting(
        "cell",
        "One score for each cell of the discriminator's output (cell, AdvEnt's code), for each "
        "patch, the mean of its cells (patch, the paper's text), or for each pixel, to which the "
        "cells are upsampled (pixel, CLAN).",
    )
    game: Literal["non_saturating", "least_squares", "minimax"] = setting(
        "non_saturating",
        "Losses of the two players. non_saturating: the segmenter raises the source score of "
        "target maps only, and the discriminator's loss is halved (AdvEnt's code). least_squares: "
        "the same with squared errors of the scores (AdaptSegNet's option). minimax: Eq. (4) to "
        "the letter.",
    )
    halved: bool = setting(
        True,
        "Whether the discriminator's loss is halved: True in AdvEnt, False in CLAN; minimax never "
        "halves it.",
    )
    pixel_weights: PixelWeights = block(
        "alp_jax.objective.pixel_weights",
        "PIXEL_WEIGHTS",
        "Weights of the target's pixels in the losses of both players.",
        default_kind="none",
    )
    discriminators: Literal["shared", "per_patch"] = setting(
        "shared",
        "One discriminator for all patches (shared), or one for each place of a grid (per_patch, "
        "ROAD).",
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
        """The heads whose prediction is aligned."""
        return split_heads(self.head)

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
        """Refuses a head named twice, and patches that are too large or too small."""
        if len(set(self.heads)) < len(self.heads):
            refuse(f"{name}.head", self.head, "each head once")
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
        self.pixel_weights.check_fit(f"{name}.pixel_weights", self.heads, self.decision)
        if self.discriminators == "per_patch" and self.patches.fixed_places is None:
            places = "shared, as these patches have no fixed places"
            refuse(f"{name}.discriminators", self.discriminators, places)

    def watch(self) -> Watch:
        """Creates a watch on the discriminator's accuracy."""
        return DiscriminatorWatch(self)

    def create(self, key: jax.Array, num_classes: int) -> PyTree:
        """Creates the discriminator's parameters; with one for each patch, along a first axis."""
        if self.discriminators == "shared":
            return self._discriminator.init(key, num_classes)
        keys = jax.random.split(key, self.patches.fixed_places)
        return jax.vmap(lambda one: self._discriminator.init(one, num_classes))(keys)

    def loss(self, seen: Seen) -> Contribution:
        """Computes the segmenter's adversarial loss on one view's maps."""
        is_source = seen.view == self.source_view
        aligned = self._compute_maps(seen, is_source=is_source)
        if is_source and self.game != "minimax":
            return Contribution(kept=aligned)
        domain_logits = self._decide(seen.own, aligned.maps)
        if self.game == "minimax":
            domain = losses.SOURCE_LABEL if is_source else losses.TARGET_LABEL
            value = -losses.domain_cross_entropy(domain_logits, domain, aligned.weights)
        else:
            value = self._score(domain_logits, losses.SOURCE_LABEL, aligned.weights)
        return Contribution(value, {f"loss/{self.name}": value}, aligned)

    def own_loss(self, own: PyTree, kept: Mapping[str, PyTree]) -> tuple[jax.Array, Scalars]:
        """Computes the discriminator's loss on the kept maps of both views."""
        source, target = kept[self.source_view], kept[self.target_view]
        source_logits = self._decide(own, source.maps)
        target_logits = self._decide(own, target.maps)
        source_loss = self._score(source_logits, losses.SOURCE_LABEL, source.weights)
        target_loss = self._score(target_logits, losses.TARGET_LABEL, target.weights)
        is_halved = self.halved and self.game != "minimax"
        loss = (0.5 if is_halved else 1.0) * (source_loss + target_loss)
        scalars = {
            "loss/discriminator": loss,
            "loss/discriminator_source": source_loss,
            "loss/discriminator_target": target_loss,
            "discriminator_accuracy/source": losses.domain_accuracy(
                source_logits, losses.SOURCE_LABEL, self._threshold
            ),
            "discriminator_accuracy/target": losses.domain_accuracy(
                target_logits, losses.TARGET_LABEL, self._threshold
            ),
        }
        return loss, {name + self.suffix: value for name, value in scalars.items()}

    @property
    def _threshold(self) -> float:
        """Score above which a map counts as the target's: a logit of 0, or 1/2 between 0 and 1."""
        return 0.5 if self.game == "least_squares" else 0.0

    def _score(self, domain_logits: jax.Array, domain: int, weights: jax.Array | None) -> jax.Array:
        """Computes a player's loss on scores for the domain that it wants."""
        if self.game == "least_squares":
            return losses.domain_squared_error(domain_logits, domain, weights)
        return losses.domain_cross_entropy(domain_logits, domain, weights)

    def _compute_maps(self, seen: Seen, *, is_source: bool) -> "Aligned":
        """Computes g(h(f(x))): maps at the images' size, whole or as patches, and their weights."""
        taken = [self._take(seen, head) for head in self.heads]
        summed = functools.reduce(jnp.add, taken)
        weights = None if is_source else self.pixel_weights.compute(taken, seen.step)
        return Aligned(maps.compute_map(summed, self.aligned_map), weights)

    def _take(self, seen: Seen, head: str) -> jax.Array:
        logits = seen.outputs.logits[head]
        height, width = seen.sample.images.shape[1:3]
        return checks.check_patches(
            self.patches,
            self.patches.take(logits, (height, width), seen.key),
            logits,
            (height, width),
            f"config.terms.{self.name}.patches",
        )

    def _decide(self, own: PyTree, aligned: jax.Array) -> jax.Array:
        """Computes domain logits of each cell, of each pixel, or the mean over each patch."""
        if self.discriminators == "per_patch":
            places = self.patches.fixed_places
            # One after the other: under vmap these are grouped convolutions, slow on the CPU.
            found = [
                self._discriminator.apply(params, aligned[place::places])
                for place, params in enumerate(_unstack(own, places))
            ]
            domain_logits = jnp.stack(found, axis=1).reshape(-1, *found[0].shape[1:])
        else:
            domain_logits = self._discriminator.apply(own, aligned)
        if domain_logits.size == 0:  # The loss refuses it.
            return domain_logits
        if self.decision == "patch":
            return jnp.mean(domain_logits, axis=(1, 2))
        if self.decision == "pixel":
            return patches.upsample(domain_logits, (aligned.shape[1], aligned.shape[2]))
        return domain_logits


def _unstack(params: PyTree, count: int) -> list[PyTree]:
    return [jax.tree.map(operator.itemgetter(place), params) for place in range(count)]


class Aligned(NamedTuple):
    """Maps to align [B * P, h, w, K], and the weights [B * P, h, w] of their pixels, or None."""

    maps: jax.Array
    weights: jax.Array | None


TERM = Alignment
