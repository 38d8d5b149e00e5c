"""The choices that make up an objective; the paper's methods are points in this space.

| method      | use_target | patch      | Cicek et al., Tables 3 and 4        |
| ----------- | ---------- | ---------- | ----------------------------------- |
| source_only | no         | -          | cross-entropy on source images only |
| target_bn   | yes        | none       | the same, batch norm sees the target |
| ap_ci       | yes        | image_crop | align predictions of cropped images |
| agp_gi      | yes        | whole      | align global predictions (AdvEnt)   |
| alp_gi      | yes        | random     | align local predictions: the method |
"""

import dataclasses
from typing import Literal, get_args

from alp_jax.objective.maps import MapKind
from alp_jax.objective.patches import Size

PatchKind = Literal["whole", "random", "image_crop", "none"]
DecisionKind = Literal["cell", "patch"]
GameKind = Literal["non_saturating", "minimax"]
PATCH_KINDS: tuple[str, ...] = get_args(PatchKind)
DECISION_KINDS: tuple[str, ...] = get_args(DecisionKind)
GAME_KINDS: tuple[str, ...] = get_args(GameKind)


@dataclasses.dataclass(frozen=True)
class Objective:
    """Static part of a train step (hashable); every field is one of `config.objective`.

    Attributes:
      use_target: False never runs a target image through the network.
      aligned_map: what the discriminator sees (`alp_jax.objective.maps`).
      patch: "whole" map; "random" patch of the prediction, or "image_crop" of the input; "none"
        aligns nothing: target images only move the statistics of batch norm.
      patch_size: (h, w), pixels at the input's resolution; unused when `patch` is "whole".
      num_patches: patches per image.
      decision: "cell" scores each cell of the discriminator's output (published code); "patch"
        averages the cells' logits to one decision (the paper's text).
      game: "non_saturating" has the segmenter raise the source score of target maps only, and
        halves the discriminator's loss (published code); "minimax" is Eq. (4) to the letter.
      adversarial_weight: lambda of Eq. (4).
      aux_cross_entropy_weight, aux_adversarial_weight: of the same two losses on the auxiliary
        classifier's prediction, where the network has one (AdvEnt's multi-level network).
      batch_norm_update_domains: domains whose images update running batch-norm statistics.
    """

    use_target: bool
    aligned_map: MapKind
    patch: PatchKind
    patch_size: Size
    num_patches: int
    decision: DecisionKind
    game: GameKind
    adversarial_weight: float
    aux_cross_entropy_weight: float
    aux_adversarial_weight: float
    batch_norm_update_domains: tuple[str, ...]

    @property
    def aligns(self) -> bool:
        """Whether there is a discriminator."""
        return self.use_target and self.patch != "none"
