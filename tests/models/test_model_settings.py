"""The settings of the network: what is refused, and how format 1 becomes the new blocks."""

import json
from typing import Any

import pytest

from alp_jax.errors import UserError
from alp_jax.models.backbones.resnet import VARIANTS, ResNetSettings
from alp_jax.models.settings import ModelSettings
from alp_jax.settings.compare import flatten, list_fields
from alp_jax.settings.schema import build, to_config
from alp_jax.settings.upgrade import upgrade_model

# config.model of commit 106e02e, as its configs/default.py made it and config.json holds it.
FORMAT_1: dict[str, Any] = {
    "activation_dtype": "float32",
    "aux_classifier": False,
    "batch_norm_mode": "running",
    "batch_norm_train_affine": False,
    "block": "bottleneck",
    "classifier_dilations": [6, 12, 18, 24],
    "depths": [3, 4, 23, 3],
    "dilations": [1, 1, 2, 4],
    "input_mean": [104.00698793, 116.66876762, 122.67891434],
    "input_order": "bgr",
    "input_std": [1.0, 1.0, 1.0],
    "kernel_init": "normal_0.01",
    "rematerialise": False,
    "scan_blocks": True,
    "stem": "imagenet",
    "stem_widths": [64],
    "stride_in": "1x1",
    "strides": [1, 2, 1, 1],
    "widths": [64, 128, 256, 512],
}


def make(**changed: Any) -> dict[str, Any]:
    """The default as read from JSON, with some fields changed ("." is "__")."""
    fields = json.loads(json.dumps(to_config(ModelSettings()).to_dict()))
    for path, value in changed.items():
        *sections, last = path.split("__")
        node = fields
        for section in sections:
            node = node[section]
        node[last] = value
    return fields


def test_the_default_is_the_network_of_format_1():
    assert build(ModelSettings, upgrade_model(FORMAT_1)) == ModelSettings()


def test_every_field_of_format_1_finds_its_place():
    """Fields are told apart by values that the default does not have."""
    other = {
        "activation_dtype": "bfloat16",
        "aux_classifier": True,
        "batch_norm_mode": "frozen",
        "batch_norm_train_affine": True,
        "block": "basic",
        "classifier_dilations": [1, 3],
        "depths": [2, 2],
        "dilations": [3, 5],
        "input_mean": [1.0, 2.0, 3.0],
        "input_order": "rgb",
        "input_std": [4.0, 5.0, 6.0],
        "kernel_init": "he_normal",
        "rematerialise": True,
        "scan_blocks": False,
        "stem": "two_convs",
        "stem_widths": [7, 8],
        "stride_in": "3x3",
        "strides": [1, 1],
        "widths": [9, 10],
    }
    assert other.keys() == FORMAT_1.keys()
    built = build(ModelSettings, upgrade_model(other))
    fields = flatten(to_config(built))
    heads = {"main": -1, "aux": -2}
    for head, stage in heads.items():
        assert fields.pop(f"heads.{head}.kind") == "aspp"
        assert fields.pop(f"heads.{head}.stage") == stage
        assert fields.pop(f"heads.{head}.dilations") == other["classifier_dilations"]
        assert fields.pop(f"heads.{head}.dropout_rate") == 0.0
    assert fields.pop("prediction") == ["main"]
    assert fields.pop("backbone.kind") == "resnet"
    del other["aux_classifier"], other["classifier_dilations"]
    assert {name.removeprefix("backbone."): value for name, value in fields.items()} == other


def test_upgrading_neither_loses_an_unknown_field_nor_invents_a_missing_one():
    with pytest.raises(UserError, match=r"Unknown field config.dephts"):
        build(ModelSettings, upgrade_model({**FORMAT_1, "dephts": [1]}))
    for name in ("widths", "classifier_dilations", "input_std"):
        fields = {key: value for key, value in FORMAT_1.items() if key != name}
        with pytest.raises(UserError, match=r"The configuration lacks config\.(\w+\.)*\w+"):
            build(ModelSettings, upgrade_model(fields))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"backbone__widths": [1, 2]},
            r"m.backbone.widths is \[1, 2\]: expected 4 numbers, one for each stage of "
            "m.backbone.depths.",
        ),
        (
            {"backbone__stem_widths": [1, 2]},
            r"m.backbone.stem_widths is \[1, 2\]: expected a list of 1 for the stem 'imagenet'.",
        ),
        ({"backbone__depths": []}, "a non-empty list of whole numbers above 0"),
        ({"backbone__stem": "x"}, "m.backbone.stem is 'x': expected one of imagenet, two_convs"),
        ({"backbone__batch_norm_mode": "x"}, "expected one of running, batch, frozen"),
        (
            {"input_std": [0, 1, 1]},
            r"m.input_std is \[0, 1, 1\]: expected a list of numbers above 0",
        ),
        ({"input_mean": [1, 1]}, r"m.input_mean is \[1, 1\]: expected 3 numbers, one for each c"),
        ({"activation_dtype": "float16"}, "expected one of float32, bfloat16"),
        ({"heads": {}}, r"m.heads is \[\]: expected a head main, which makes predictions"),
        (
            {"heads__main__stage": -5},
            "m.heads.main.stage is -5: expected at least -4, as the backbone has 4 stages",
        ),
        ({"heads__main__stage": 0}, "m.heads.main.stage is 0: expected at most -1"),
        (
            {"prediction": ["main", "second"]},
            "m.prediction is 'second': expected names of heads of the network: main",
        ),
        ({"prediction": ["main", "main"]}, "m.prediction is .*: expected each head once"),
        ({"prediction": []}, "m.prediction is .*: expected a non-empty list of texts"),
        (
            {"heads__second": {"kind": "shared", "of": "third", "stage": -1}},
            "m.heads.second.of is 'third': expected a head on the same stage with a decoder of its "
            "own: main",
        ),
        ({"heads__main__dilations": [0]}, "a non-empty list of whole numbers above 0"),
        (
            {"backbone__kind": "resnot"},
            r"m.backbone.kind is 'resnot' \(did you mean resnet\?\): expected one of dinov2, "
            "efficientnet_lite, mit, resnet",
        ),
    ],
)
def test_a_network_that_cannot_be_is_refused(changed, message):
    with pytest.raises(UserError, match=message):
        build(ModelSettings, make(**changed), name="m")


def test_weights_depend_on_all_but_how_they_are_used():
    free = list_fields(ModelSettings(), of_weights=False)
    assert free == [
        "backbone.batch_norm_mode",
        "backbone.batch_norm_train_affine",
        "backbone.kernel_init",
        "backbone.scan_blocks",
        "backbone.rematerialise",
        "heads.main.dropout_rate",
        "prediction",
        "activation_dtype",
    ]


@pytest.mark.parametrize("mode", ["running", "batch", "frozen"])
def test_frozen_batch_norm_moves_no_statistics(mode):
    model = ModelSettings(backbone=ResNetSettings(batch_norm_mode=mode))
    assert model.moves_statistics == (mode != "frozen")


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_networks(variant):
    settings = ResNetSettings(**VARIANTS[variant])
    settings.check("config.model.backbone")
    expansion = 4 if settings.block == "bottleneck" else 1
    assert settings.stage_channels == tuple(expansion * width for width in (64, 128, 256, 512))
