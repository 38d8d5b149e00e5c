"""Converted weights whose classes are not Cityscapes': their label set is told."""

import json

import pytest
import torch

from alp_jax.errors import UserError
from alp_jax.workdir import classes, config
from data_prep.convert_weights import importing
from data_prep.convert_weights.layouts import AUTO
from tests.data_prep import published_networks as published


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """CLAN's network with three classes, and their label set."""
    monkeypatch.chdir(tmp_path)
    torch.save(published.create("clan", 3).state_dict(), "three.pth")
    (tmp_path / "three.yaml").write_text("classes: [a, b, c]")
    (tmp_path / "two.yaml").write_text("classes: [a, b]")
    return tmp_path


def convert(root, layout, label_set):
    choices = importing.Choices(layout, label_set)
    return importing.import_weights(root / "three.pth", root / "workdir", choices)


def test_the_label_set_that_is_told_goes_with_the_weights(weights):
    report = convert(weights, AUTO, "three.yaml")
    assert ": 3 classes." in report
    assert "--config.data.label_set=three.yaml" in report
    fields = json.loads((weights / "workdir" / "config.json").read_text())
    assert fields["data"]["label_set"] == "three.yaml"
    (weights / "three.yaml").unlink()
    name = config.load(weights / "workdir").data.label_set
    assert classes.load(weights / "workdir", name).names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("layout", "label_set", "message"),
    [
        ("clan", None, "has 3 classes: expected 19, 16, 13 classes, those of Cityscapes; name its"),
        ("clan", "two.yaml", "has 3 classes: expected the 2 classes of two.yaml; name its own"),
        (
            AUTO,
            None,
            "name its own with --label_set=my_classes.yaml, or keep the backbone alone with",
        ),
        ("clan", "nowhere.yaml", "There is no label set file nowhere.yaml"),
        ("caffe_init", "three.yaml", "has no classifier: expected none for weights of a backbone"),
    ],
)
def test_another_number_of_classes_is_one_sentence(weights, layout, label_set, message):
    with pytest.raises(UserError) as error:
        convert(weights, layout, label_set)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (weights / "workdir").exists()
