"""Files of DINOv2 and MiT, by the names of each library: all tensors used, and the same bits back.

That the networks then compute the same is tested in tests/models.
"""

import json
import textwrap

import jax
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers

from alp_jax.command import configuration
from alp_jax.errors import UserError
from alp_jax.objective import state
from alp_jax.run import assembly
from alp_jax.workdir.settings import build_settings
from data_prep.convert_weights import exporting, importing
from data_prep.convert_weights.layouts import AUTO, LAYOUTS, sort_as_published
from tests.models import originals, torch_foundation

WIDTHS = (4, 8, 20, 16)
CREATE = {
    "dinov2": lambda: torch_foundation.DinoV2("facebook", 64, 2, 1, 0),
    "dinov2_registers": lambda: torch_foundation.DinoV2("facebook", 64, 1, 1, 4),
    "dinov2_timm": lambda: torch_foundation.DinoV2("timm", 64, 1, 1, 0),
    "dinov2_registers_timm": lambda: torch_foundation.DinoV2("timm", 64, 1, 1, 4),
    "dinov2_transformers": lambda: transformers.Dinov2Model(
        transformers.Dinov2Config(
            hidden_size=64, num_hidden_layers=1, num_attention_heads=1, image_size=518
        )
    ),
    "dinov2_registers_transformers": lambda: transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(
            hidden_size=64, num_hidden_layers=1, num_attention_heads=1, image_size=518,
            patch_size=14,
        )
    ),
    "mit": lambda: torch_foundation.Mit(WIDTHS, (1, 2, 1, 1)),
    # Of the file of ImageNet's weights, with its classifier.
    "mit_transformers": lambda: transformers.SegformerForImageClassification(
        transformers.SegformerConfig(depths=(1, 2, 1, 1), hidden_sizes=WIDTHS)
    ),
}  # fmt: skip
UNUSED = {
    "mit": "2 tensors, head, the classifier of ImageNet",
    "mit_transformers": "2 tensors, classifier, of ImageNet",
}


def create(layout):
    network = CREATE[layout]()
    originals.randomise(network)
    return originals.save(network)


def test_every_layout_of_these_networks_is_tested():
    assert CREATE.keys() == {
        name for name, layout in LAYOUTS.items() if layout.kind in ("dinov2", "mit")
    }


@pytest.mark.parametrize("layout", CREATE)
def test_a_file_is_recognised_and_the_way_back_gives_its_bits(layout, tmp_path):
    tensors = create(layout)
    path = tmp_path / ("file.safetensors" if "_t" in layout else "file.pth")
    if path.suffix == ".pth":
        torch.save(tensors, path)
    else:
        safetensors.torch.save_file(tensors, path)
    report = importing.import_weights(path, tmp_path / "workdir")
    assert f"of the layout {layout} " in report
    licence = "Apache-2.0" if "dinov2" in layout else "NVIDIA Source Code License"
    assert f"  licence of its published files: {licence}" in report
    assert "used: " in report
    ignored = UNUSED.get(layout)
    assert (f"ignored: {ignored}" in report) if ignored else ("ignored" not in report)
    weights = json.loads((tmp_path / "workdir" / "weights.json").read_text())
    assert len(weights["reasons"]) == (2 if ignored else 0)

    back = tmp_path / f"back{path.suffix}"
    exporting.export_weights(tmp_path / "workdir", back, AUTO, "latest")
    load = torch.load if path.suffix == ".pth" else safetensors.torch.load_file
    found = load(back)
    assert sorted(found) == sorted(tensors)
    for key, tensor in tensors.items():
        assert found[key].numpy().tobytes() == tensor.contiguous().numpy().tobytes(), key
    assert back.read_bytes() == path.read_bytes() or path.suffix == ".pth"


def test_the_printed_configuration_starts_a_run(tmp_path, caplog):
    caplog.set_level("INFO", logger="alp_jax")
    torch.save(create("dinov2_registers"), tmp_path / "file.pth")
    report = importing.import_weights(tmp_path / "file.pth", tmp_path / "workdir")
    *_, code = report.partition("choose a decoder there, too:\n")
    (tmp_path / "mine.py").write_text(textwrap.dedent(code))
    settings = build_settings(configuration.read_config(str(tmp_path / "mine.py"), "alp_gi", []))
    assert settings.model.input_order == "rgb"
    assert (settings.model.backbone.width, settings.model.backbone.num_registers) == (64, 4)
    segmenter = assembly.create_setup(settings).segmenter
    shapes = jax.eval_shape(segmenter.init, jax.random.key(0))
    drawn = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    entry = state.SegmenterState(*drawn, None)
    assembly.init_from(settings, state.TrainState(np.int32(0), entry, None))
    assert "initialised afresh: classifier." in caplog.text


def test_weights_of_a_run_are_written_with_the_names_of_another_library(tmp_path):
    """Of a workdir that came from the same numbers, by another layout's names."""
    torch.save(create("dinov2_registers"), tmp_path / "file.pth")
    importing.import_weights(tmp_path / "file.pth", tmp_path / "workdir")
    path = tmp_path / "other.safetensors"
    layout = "dinov2_registers_transformers"
    exporting.export_weights(tmp_path / "workdir", path, layout, "latest")
    expected = originals.save(CREATE[layout]())
    found = safetensors.torch.load_file(path)
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in expected.items()}
    with pytest.raises(UserError, match=r"config.model.backbone.interpolation 'antialiased': exp"):
        exporting.export_weights(
            tmp_path / "workdir", tmp_path / "x.pth", "dinov2_transformers", "latest"
        )


@pytest.mark.parametrize(
    ("layout", "key", "message"),
    [
        ("dinov2", "blocks.1.mlp.fc2.bias", "it lacks blocks.1.mlp.fc2.bias;"),
        ("dinov2", "blocks.0.mlp.fc1.weight", "lacks blocks.0.mlp.fc1.weight, and holds"),
        (
            "dinov2_transformers",
            "encoder.layer.0.attention.attention.key.bias",
            "it lacks encoder.layer.0.attention.attention.key.bias;",
        ),
        ("mit", "block2.1.attn.sr.weight", "it lacks block2.1.attn.sr.weight;"),
    ],
)
def test_a_missing_tensor_is_named(layout, key, message, tmp_path):
    tensors = create(layout)
    del tensors[key]
    torch.save(tensors, tmp_path / "file.pth")
    with pytest.raises(UserError, match=message):
        importing.import_weights(tmp_path / "file.pth", tmp_path / "workdir")
    tensors = create(layout) | {"extra": torch.zeros(3)}
    torch.save(tensors, tmp_path / "file.pth")
    with pytest.raises(UserError, match="it has extra, which are unknown"):
        importing.import_weights(tmp_path / "file.pth", tmp_path / "workdir")


def test_another_layouts_file_is_refused_by_its_marks(tmp_path):
    torch.save(create("dinov2_registers"), tmp_path / "file.pth")
    with pytest.raises(UserError, match="has register_tokens, which no file of that layout has"):
        importing.import_weights(
            tmp_path / "file.pth", tmp_path / "workdir", importing.Choices("dinov2")
        )


@pytest.mark.parametrize("layout", ["dinov2_registers", "mit"])
def test_keys_are_sorted_as_the_published_network_lists_them(layout):
    listed = [key for key in create(layout) if not key.startswith("head.")]
    assert sort_as_published(reversed(listed), LAYOUTS[layout]) == listed


def test_names_are_found_both_ways():
    for layout in LAYOUTS.values():
        for name, given in layout.names.items():
            key = name.format(17) + ".weight"
            found = layout.keys_in_file(key)
            assert len(found) == (1 if isinstance(given, str) else len(given))
            assert layout.keys_of_file(found) == {key}
    assert LAYOUTS["mit"].keys_in_file("block1.0.attn.kv.bias") == ("block1.0.attn.kv.bias",)
