"""The configurations whose train step is compared, in the vocabulary of commit 106e02e.

A case is a method and the fields, by full name, that differ from `configs/default.py` of that
commit. A worker translates them to the vocabulary of its own code.
"""

import dataclasses
from typing import Any

Overrides = dict[str, Any]

# The smallest network that still has every part, as in tests/tiny.py, and images of 32x48. It is
# written out here, so that a change of tests/tiny.py or configs/toy_cities.py changes no case.
TINY: Overrides = {
    "num_steps": 6,
    "data.num_classes": 16,
    "data.source_size": (32, 48),
    "data.target_size": (32, 48),
    "data.batch_size": 2,
    "model.stem": "two_convs",
    "model.stem_widths": (4, 8),
    "model.block": "basic",
    "model.depths": (1, 1),
    "model.widths": (8, 8),
    "model.strides": (1, 1),
    "model.dilations": (1, 2),
    "model.classifier_dilations": (1, 2),
    "model.kernel_init": "he_normal",
    "model.input_order": "rgb",
    "model.input_mean": (110.0, 110.0, 110.0),
    "model.input_std": (60.0, 60.0, 60.0),
    "discriminator.widths": (4, 4),
    "objective.aligned_map": "normalized_self_information",
    "objective.patch_size": (16, 16),
    "objective.num_patches": 2,
    "objective.adversarial_weight": 0.01,
    "optimizer.segmenter_learning_rate": 2e-3,
    "optimizer.classifier_learning_rate_multiplier": 1.0,
    "optimizer.sgd_preset": "clean",
    "optimizer.gradient_clip_norm": 5.0,
    "optimizer.discriminator_learning_rate": 1e-3,
    "optimizer.horizon_steps": 10,
}

METHODS = ("source_only", "target_bn", "ap_ci", "agp_gi", "alp_gi")

# Every method meets each of these. "plain" has running statistics of batch norm, the default, so
# that there is no variant "running". Batch norm's scale and bias are constants in all of them.
VARIANTS: dict[str, Overrides] = {
    "plain": {},
    "aux": {"model.aux_classifier": True},
    "minimax": {"objective.game": "minimax"},
    "patch_decision": {"objective.decision": "patch"},
    "batch": {"model.batch_norm_mode": "batch"},
    "frozen": {"model.batch_norm_mode": "frozen"},
    "bfloat16": {
        "model.activation_dtype": "bfloat16",
        "discriminator.activation_dtype": "bfloat16",
    },
}

# Combinations that are left out, and why.
LEFT_OUT: dict[tuple[str, str], str] = {
    ("source_only", "minimax"): "nothing is aligned, so no game is played",
    ("source_only", "patch_decision"): "there is no discriminator that decides",
    ("target_bn", "minimax"): "nothing is aligned, so no game is played",
    ("target_bn", "patch_decision"): "there is no discriminator that decides",
    ("target_bn", "frozen"): "refused: frozen statistics leave the target without any effect",
}

# A network as the paper's: bottleneck blocks, 7x7 stem, Caffe's input, the published optimizer, and
# a stage of four blocks, of which the three equal ones are one loop of the program.
PAPER_NETWORK: Overrides = {
    "model.stem": "imagenet",
    "model.stem_widths": (4,),
    "model.block": "bottleneck",
    "model.depths": (1, 4),
    "model.widths": (2, 4),
    "model.strides": (1, 2),
    "model.kernel_init": "normal_0.01",
    "model.input_order": "bgr",
    "model.input_mean": (104.00698793, 116.66876762, 122.67891434),
    "model.input_std": (1.0, 1.0, 1.0),
    "model.aux_classifier": True,
    "optimizer.sgd_preset": "reference",
    "optimizer.classifier_learning_rate_multiplier": 10.0,
    "optimizer.gradient_clip_norm": 0.0,
}

# Single cases for fields that the table of methods and variants does not reach.
OTHERS: dict[str, tuple[str, Overrides]] = {
    # The three aligned maps are normalized_self_information (all others) and these.
    "self_information": ("alp_gi", {"objective.aligned_map": "self_information"}),
    "softmax": ("agp_gi", {"objective.aligned_map": "softmax"}),
    # Domains that move the running statistics are both (all others) and these.
    "update_source": ("alp_gi", {"objective.batch_norm_update_domains": ("source",)}),
    "update_target": ("alp_gi", {"objective.batch_norm_update_domains": ("target",)}),
    "update_none": ("alp_gi", {"objective.batch_norm_update_domains": ()}),
    "update_target_only_bn": ("target_bn", {"objective.batch_norm_update_domains": ("target",)}),
    "paper_network": ("alp_gi", PAPER_NETWORK),
    "paper_network_batch": ("alp_gi", {**PAPER_NETWORK, "model.batch_norm_mode": "batch"}),
    "paper_network_bfloat16": ("agp_gi", {**PAPER_NETWORK, **VARIANTS["bfloat16"]}),
    "paper_network_written_out": ("alp_gi", {**PAPER_NETWORK, "model.scan_blocks": False}),
    "paper_network_stride_in_3x3": ("source_only", {**PAPER_NETWORK, "model.stride_in": "3x3"}),
    "paper_network_affine": ("alp_gi", {**PAPER_NETWORK, "model.batch_norm_train_affine": True}),
    "rematerialise": ("alp_gi", {"model.rematerialise": True}),
    "rematerialise_scan": ("agp_gi", {**PAPER_NETWORK, "model.rematerialise": True}),
    "no_clipping": ("alp_gi", {"optimizer.gradient_clip_norm": 0.0}),
    "affine": ("alp_gi", {"model.batch_norm_train_affine": True}),
    "aux_minimax": (
        "alp_gi",
        {**VARIANTS["aux"], **VARIANTS["minimax"], "objective.adversarial_weight": 0.1},
    ),
    "aux_minimax_whole": ("agp_gi", {**VARIANTS["aux"], **VARIANTS["minimax"]}),
    "aux_patch_decision_bfloat16": (
        "alp_gi",
        {**VARIANTS["aux"], **VARIANTS["patch_decision"], **VARIANTS["bfloat16"]},
    ),
    # Weights of zero: no scalar that is logged disappears.
    "zero_weights": (
        "alp_gi",
        {
            **VARIANTS["aux"],
            "objective.adversarial_weight": 0.0,
            "objective.aux_adversarial_weight": 0.0,
            "objective.aux_cross_entropy_weight": 0.0,
        },
    ),
    # The two warm-ups of the demo: everything learns from scratch, on whole images and on crops.
    "warmup": (
        "source_only",
        {"model.batch_norm_mode": "batch", "model.batch_norm_train_affine": True},
    ),
    "warmup_crops": ("source_only", {"objective.patch": "image_crop"}),
    "sizes_differ": (
        "alp_gi",
        {"data.source_size": (40, 56), "data.batch_size": 1, "objective.patch_size": (24, 16)},
    ),
    "nineteen_classes": ("alp_gi", {"data.num_classes": 19}),
    "thirteen_classes": ("source_only", {"data.num_classes": 13}),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A configuration: a method of commit 106e02e, and fields that differ from its defaults."""

    method: str
    overrides: Overrides


def create_cases() -> dict[str, Case]:
    """Creates all cases by name, METHOD-VARIANT; each has the whole of its overrides."""
    cases = {
        f"{method}-{variant}": Case(method, {**TINY, **overrides})
        for method in METHODS
        for variant, overrides in VARIANTS.items()
        if (method, variant) not in LEFT_OUT
    }
    for name, (method, overrides) in OTHERS.items():
        cases[f"{method}-{name}"] = Case(method, {**TINY, **overrides})
    return cases
