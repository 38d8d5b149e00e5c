"""The settings of the network: config.model."""

import dataclasses
from typing import Literal

from alp_jax.models.layers import ActivationDtype, BatchNormMode
from alp_jax.models.resnet import BlockKind, StemKind, StridePlace
from alp_jax.settings.schema import Channels, setting


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Flat settings until the backbone and decoder files are merged."""

    stem: StemKind = setting("imagenet", "s")
    stem_widths: tuple[int, ...] = setting((64,), "s", at_least=1, non_empty=True)
    block: BlockKind = setting("bottleneck", "s")
    stride_in: StridePlace = setting("1x1", "s")
    depths: tuple[int, ...] = setting((3, 4, 23, 3), "s", at_least=1, non_empty=True)
    widths: tuple[int, ...] = setting((64, 128, 256, 512), "s", at_least=1, non_empty=True)
    strides: tuple[int, ...] = setting((1, 2, 1, 1), "s", at_least=1, non_empty=True)
    dilations: tuple[int, ...] = setting((1, 1, 2, 4), "s", at_least=1, non_empty=True)
    classifier_dilations: tuple[int, ...] = setting(
        (6, 12, 18, 24), "s", at_least=1, non_empty=True
    )
    aux_classifier: bool = setting(False, "s", of_weights=False)
    batch_norm_mode: BatchNormMode = setting("running", "s", of_weights=False)
    batch_norm_train_affine: bool = setting(False, "s", of_weights=False)
    kernel_init: Literal["normal_0.01", "he_normal"] = setting("normal_0.01", "s", of_weights=False)
    input_order: Literal["bgr", "rgb"] = setting("bgr", "s")
    input_mean: Channels = setting((104.00698793, 116.66876762, 122.67891434), "s")
    input_std: Channels = setting((1.0, 1.0, 1.0), "s", above=0)
    activation_dtype: ActivationDtype = setting("float32", "s", of_weights=False)
    scan_blocks: bool = setting(True, "s", of_weights=False)
    rematerialise: bool = setting(False, "s", of_weights=False)

    @property
    def head_names(self) -> tuple[str, ...]:
        """Names of the heads."""
        return ("main", "aux") if self.aux_classifier else ("main",)

    @property
    def moves_statistics(self) -> bool:
        """Whether training moves running statistics."""
        return self.batch_norm_mode != "frozen"
