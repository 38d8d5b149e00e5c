"""The type of every field of a configuration, for one that was not made by configs/default.py.

Flags and Python files give the right types by themselves; a config.json may have been edited.
"""

from collections.abc import Iterator
from typing import Any

_TEXT = (
    "init_from", "start_variant", "data.data_dir", "data.label_set", "data.source",
    "data.source_split",
    "data.target", "data.target_split", "evaluation.dataset", "evaluation.split",
    "evaluation.reported_split", "data.image_resize", "model.stem", "model.block",
    "model.stride_in", "model.batch_norm_mode", "model.kernel_init", "model.input_order",
    "model.activation_dtype", "discriminator.activation_dtype", "objective.aligned_map",
    "objective.patch", "objective.decision", "objective.game", "optimizer.sgd_preset",
)  # fmt: skip
_SWITCHES = (
    "tensorboard", "model.aux_classifier", "model.batch_norm_train_affine", "model.scan_blocks",
    "model.rematerialise", "objective.use_target",
)  # fmt: skip
_NUMBERS = (
    "data.flip_probability", "objective.adversarial_weight", "objective.aux_cross_entropy_weight",
    "objective.aux_adversarial_weight", "optimizer.segmenter_learning_rate",
    "optimizer.classifier_learning_rate_multiplier", "optimizer.momentum",
    "optimizer.weight_decay", "optimizer.gradient_clip_norm",
    "optimizer.discriminator_learning_rate", "optimizer.adam_b1", "optimizer.adam_b2",
    "optimizer.adam_eps", "optimizer.poly_power", "guards.discriminator_tolerance",
)  # fmt: skip
_WHOLE_NUMBERS = (
    "seed", "num_steps", "log_every_steps", "data.batch_size", "data.num_workers",
    "data.prefetch_batches", "data.max_bad_records", "objective.num_patches",
    "optimizer.horizon_steps", "evaluation.batch_size", "evaluation.every_steps",
    "evaluation.num_sheet_images", "checkpoint.every_steps", "checkpoint.keep_last",
    "guards.discriminator_patience", "mesh.data", "mesh.space",
)  # fmt: skip
_LISTS_OF_WHOLE_NUMBERS = (
    "data.source_size", "data.target_size", "objective.patch_size", "model.stem_widths",
    "model.depths", "model.widths", "model.strides", "model.dilations",
    "model.classifier_dilations", "discriminator.widths",
)  # fmt: skip
_LISTS_OF_NUMBERS = ("model.input_mean", "model.input_std")
_LISTS_OF_TEXT = ("objective.batch_norm_update_domains",)

# Name of a field -> (what is expected, types of the value or of its items, whether it is a list).
_EXPECTED: dict[str, tuple[str, tuple[type, ...], bool]] = {
    name: (expected, types, is_list)
    for names, expected, types, is_list in (
        (_TEXT, "a text", (str,), False),
        (_SWITCHES, "True or False", (bool,), False),
        (_NUMBERS, "a number", (int, float), False),
        (_WHOLE_NUMBERS, "a whole number", (int,), False),
        (_LISTS_OF_WHOLE_NUMBERS, "a list of whole numbers", (int,), True),
        (_LISTS_OF_NUMBERS, "a list of numbers", (int, float), True),
        (_LISTS_OF_TEXT, "a list of texts", (str,), True),
    )
    for name in names
}


def names() -> frozenset[str]:
    """The fields whose types are known."""
    return frozenset(_EXPECTED)


def find_wrong(fields: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Yields (field, value, what is expected) where a value has another type.

    Args:
      fields: {"data.batch_size": 1, ...}, lists for tuples.
    """
    for name, value in fields.items():
        if name not in _EXPECTED:
            continue
        expected, types, is_list = _EXPECTED[name]
        if isinstance(value, list) != is_list:
            yield name, value, expected
            continue
        items = value if is_list else [value]
        # To Python, True is a number.
        if not all(type(item) in types for item in items):
            yield name, value, expected
