"""The adversarial alignment of source and target maps: Eqs. (2) to (4) of Cicek et al., ACCV 2020.

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
from alp_jax.objective import losses, maps, patches
from alp_jax.objective.types import SOURCE, TARGET, Contribution, Scalars, Seen, Surroundings, Term
from alp_jax.settings.schema import Size, refuse, setting

PyTree = Any

_NAME = "adversarial"


@dataclasses.dataclass(frozen=True)
class Alignment(Term):
    """Aligns the maps of two views by a discriminator of its own.

    The discriminator's and the segmenter's losses are taken on the same patches, at the parameters
    before the step; no gradient of one player's loss reaches the other's parameters.
    """

    weight: float = setting(0.001, "What the loss is multiplied by; lambda of Eq. (4).", at_least=0)
    head: str = setting(MAIN, "The head whose prediction is aligned.")
    source_view: str = setting(SOURCE, "The view that plays the source.")
    target_view: str = setting(TARGET, "The view that plays the target.")
    aligned_map: maps.MapKind = setting(
        "self_information",
        "What the discriminator sees: -p log p in nats (the paper), the same divided by log K "
        "(AdvEnt), or p (AdaptSegNet).",
    )
    patch: Literal["random", "whole"] = setting(
        "random", "Randomly placed patches of the map (ALP-GI), or the whole map (AGP-GI)."
    )
    patch_size: Size = setting(
        (256, 256), "(height, width) of a patch, pixels of the images; not used by whole maps."
    )
    num_patches: int = setting(1, "Patches of each map; not used by whole maps.", at_least=1)
    decision: Literal["cell", "patch"] = setting(
        "cell",
        "A score for each cell of the discriminator's output (AdvEnt's code), or one for each "
        "patch, the mean of its cells (the paper's text).",
    )
    game: Literal["non_saturating", "minimax"] = setting(
        "non_saturating",
        "The segmenter raises the source score of target maps only, and the discriminator's loss "
        "is halved (AdvEnt's code); or Eq. (4) to the letter.",
    )
    widths: tuple[int, ...] = setting(
        (64, 128, 256, 512),
        "Channels of the discriminator's 4x4 convolutions of stride 2, but the last, which has 1.",
        at_least=1,
        non_empty=True,
    )
    activation_dtype: ActivationDtype = setting(
        "float32", "Type of the discriminator's activations; parameters stay in single precision."
    )
    owns_parameters: ClassVar[bool] = True

    @property
    def views(self) -> tuple[str, ...]:
        """The two views."""
        return self.source_view, self.target_view

    @property
    def heads(self) -> tuple[str, ...]:
        """The one head."""
        return (self.head,)

    @property
    def key(self) -> str:
        """The name without "adversarial": "main" for the term of that very name."""
        return self.name.removeprefix(_NAME).lstrip("_") or MAIN

    @property
    def shown(self) -> Mapping[str, str]:
        """Shows both players' losses."""
        suffix = self._suffix
        return {f"loss/{self.name}": f"adv{suffix}", f"loss/discriminator{suffix}": f"disc{suffix}"}

    @property
    def _suffix(self) -> str:
        return "" if self.key == MAIN else f"_{self.key}"

    @property
    def _discriminator(self) -> DomainDiscriminator:
        return DomainDiscriminator.create(self.widths, self.activation_dtype)

    def check_fit(self, name: str, surroundings: Surroundings) -> None:
        """Refuses patches that do not fit, or leave the discriminator nothing to decide."""
        smallest = min_input_size(self.widths)
        layers = len(self.widths) + 1
        enough = (
            f"at least {smallest}x{smallest}, below which the discriminator's {layers} stride-2 "
            f"layers leave nothing to decide; use a larger patch or fewer {name}.widths"
        )
        for view in self.views:
            height, width = surroundings.sizes[view]
            if self.patch == "whole":
                if min(height, width) < smallest:
                    refuse(f"{name}: the size of the view {view}", (height, width), enough)
            elif self.patch_size[0] > height or self.patch_size[1] > width:
                inside = f"a patch inside the {view} map of {height}x{width}"
                refuse(f"{name}.patch_size", self.patch_size, inside)
        if self.patch == "random" and min(self.patch_size) < smallest:
            refuse(f"{name}.patch_size", self.patch_size, enough)

    def create(self, key: jax.Array, num_classes: int) -> PyTree:
        """Creates the discriminator's parameters."""
        return self._discriminator.init(key, num_classes)

    def loss(self, seen: Seen) -> Contribution:
        """Computes the segmenter's side of the game on one view's maps."""
        aligned = self._compute_maps(seen)
        domain = losses.SOURCE if seen.view == self.source_view else losses.TARGET
        if domain == losses.SOURCE and self.game == "non_saturating":
            return Contribution(kept=aligned)
        domain_logits = self._decide(seen.own, aligned)
        if self.game == "non_saturating":
            value = losses.domain_cross_entropy(domain_logits, losses.SOURCE)
        else:
            value = -losses.domain_cross_entropy(domain_logits, domain)
        return Contribution(value, {f"loss/{self.name}": value}, aligned)

    def own_loss(self, own: PyTree, kept: Mapping[str, PyTree]) -> tuple[jax.Array, Scalars]:
        """Computes the discriminator's loss on the maps that the segmenter made."""
        source_logits = self._decide(own, kept[self.source_view])
        target_logits = self._decide(own, kept[self.target_view])
        source_loss = losses.domain_cross_entropy(source_logits, losses.SOURCE)
        target_loss = losses.domain_cross_entropy(target_logits, losses.TARGET)
        loss = (0.5 if self.game == "non_saturating" else 1.0) * (source_loss + target_loss)
        scalars = {
            "loss/discriminator": loss,
            "loss/discriminator_source": source_loss,
            "loss/discriminator_target": target_loss,
            "discriminator_accuracy/source": losses.domain_accuracy(source_logits, losses.SOURCE),
            "discriminator_accuracy/target": losses.domain_accuracy(target_logits, losses.TARGET),
        }
        return loss, {name + self._suffix: value for name, value in scalars.items()}

    def _compute_maps(self, seen: Seen) -> jax.Array:
        """Computes g(h(f(x))): upsampled to the images' size, whole or of random patches."""
        logits = seen.outputs.logits[self.head]
        height, width = seen.sample.images.shape[1:3]
        size = (height, width)
        if self.patch == "random":
            offsets = patches.sample_offsets(
                seen.key, logits.shape[0], size, self.patch_size, self.num_patches
            )
            logits = patches.upsample_patches(logits, offsets, size, self.patch_size)
        else:
            logits = patches.upsample(logits, size)
        return maps.compute_map(logits, self.aligned_map)

    def _decide(self, own: PyTree, aligned: jax.Array) -> jax.Array:
        """Computes domain logits: one for each cell, or their mean for each patch."""
        domain_logits = self._discriminator.apply(own, aligned)
        if self.decision == "patch" and domain_logits.size > 0:
            domain_logits = jnp.mean(domain_logits, axis=(1, 2))
        return domain_logits


TERM = Alignment
