"""The files and commands of docs/own_parts.md, run as they stand in the page, on the tiny pair."""

import json
import pathlib
import re
import shlex
import types
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

import configs
from alp_jax.errors import UserError
from alp_jax.workdir.settings import build_settings
from tests import commands, tiny

PAGE = (commands.ROOT / "docs" / "own_parts.md").read_text()
FILE = re.compile(r"`(\w+\.py)`:\n\n```python\n(.*?)^```$", re.M | re.S)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
FILES = dict(FILE.findall(PAGE))
# The first commands prepare the cities and their warm-up, for which the tiny pair stands in.
_, *RUNS = [text for language, text in BLOCK.findall(PAGE) if not language]


def get_config(data_dir: pathlib.Path, variant: str):
    """The tiny configuration, in two steps."""
    config = tiny.get_config(data_dir, variant)
    with config.unlocked():
        config.num_steps = config.log_every_steps = 2
        config.evaluation.every_steps = config.checkpoint.every_steps = 2
    return config


@pytest.fixture
def folder(data_dir, tmp_path, monkeypatch) -> pathlib.Path:
    """A stand-in for the clone: the page's files, the configuration of the cities, and frames."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "toy_cities.py").write_text(
        "import pathlib\nfrom tests import test_own_parts\n\n\n"
        "def get_config(variant):\n"
        f"    return test_own_parts.get_config(pathlib.Path({str(data_dir)!r}), variant)\n"
    )
    (tmp_path / "own" / "new_frames").mkdir(parents=True)
    Image.fromarray(tiny.make_example(1)["image"]).save(tmp_path / "own/new_frames/a.png")
    cities = types.SimpleNamespace(get_config=lambda variant: get_config(data_dir, variant))
    monkeypatch.setattr(configs, "toy_cities", cities)
    monkeypatch.setattr(commands, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def list_commands(block: str) -> Iterator[tuple[str, list[str]]]:
    for line in block.replace("\\\n", " ").splitlines():
        python, flag, module, *arguments = shlex.split(line)
        assert (python, flag) == ("python", "-m"), line
        yield module, arguments


def test_the_files_train_evaluate_predict_and_export(folder):
    assert len(FILES) >= 8
    assert len(RUNS) == 3
    used = " ".join(RUNS) + " ".join(FILES.values())
    for name in FILES:
        assert name in used, f"docs/own_parts.md uses {name} nowhere"
    for block in RUNS:
        for module, arguments in list_commands(block):
            done = commands.call(module, *arguments)
            assert done.returncode == 0, done.stdout + done.stderr
        name = arguments[-1].rpartition("/exported_")[2]
        label_ids = Image.open(folder / "own" / f"predictions_{name}" / "label_ids" / "a.png")
        assert np.asarray(label_ids).shape == (tiny.HEIGHT, tiny.WIDTH)
        assert (folder / "own" / f"exported_{name}" / "segmenter.jax").stat().st_size > 100
    (line,) = (folder / "runs" / "entropy" / "metrics.jsonl").read_text().splitlines()
    assert 0 < json.loads(line)["loss/entropy"] <= 1
    saved = json.loads((folder / "runs/my_network/alp_gi/config.json").read_text())
    assert saved["model"]["backbone"] == {"kind": "my_backbone.py", "width": 24}


def test_a_kind_alone_leaves_the_fields_of_the_former_one(folder):
    config = configs.toy_cities.get_config("alp_gi")
    with config.unlocked():
        config.model.backbone.kind = "my_backbone.py"
    with pytest.raises(UserError) as caught:
        build_settings(config)
    quoted = re.search(r"`(Unknown field config[^`]*)`", PAGE)
    assert quoted
    assert str(caught.value).startswith(f"{quoted[1]}:")
