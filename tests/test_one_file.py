"""One new thing is one new file: a method, term, placement, backbone, label set and dataset.

Each stands in a temporary folder, and the commands are given their paths; nothing else is touched.
"""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from tests import commands

DATASET = """
    from typing import ClassVar
    import numpy as np
    from alp_jax.data.labels import LabelTable
    from data_prep.raw import cli
    from data_prep.raw.builder import RawBuilder, RawConfig, make_config
    from data_prep.raw.labels import read_indices
    from data_prep.raw.layout import PatternLayout, Split
    from data_prep.raw.tables import RawTable

    NAMES = {0: "ground", 1: "car", 2: "truck"}
    TABLE = RawTable(NAMES, {value: value for value in NAMES})

    def read_label(data: bytes) -> np.ndarray:
        return read_indices(data, TABLE)

    LABELLED = PatternLayout(
        name="labelled", expected="NAME.png and NAME_label.png", splits={"train": Split("", 2)},
        image=r"(?P<name>[a-z]+)\\.png", label=r"(?P<name>[a-z]+)_label\\.png",
        read_label=read_label, table=LabelTable(NAMES),
    )
    UNLABELLED = PatternLayout(
        name="unlabelled", expected="NAME.png", splits={"train": Split("", 2)},
        image=r"(?P<name>[a-z]+)\\.png",
    )

    class Mine(RawBuilder):
        \"\"\"Prepares my images.\"\"\"

        MANUAL_DOWNLOAD_INSTRUCTIONS = LABELLED.expected
        BUILDER_CONFIGS: ClassVar[list[RawConfig]] = [
            make_config(LABELLED), make_config(UNLABELLED)
        ]

    COMMAND = cli.Command(
        builder=Mine, layouts=(LABELLED, UNLABELLED), default=("labelled", "unlabelled")
    )

    if __name__ == "__main__":
        cli.run("mine")
"""
LABEL_SET = """
    classes:
      - {name: ground, colour: [10, 20, 30], id: 5}
      - {name: vehicles, colour: [200, 100, 0], id: 9}
    includes:
      vehicles: [car, truck]
"""
BACKBONE = """
    import dataclasses
    import flax.linen as nn
    from alp_jax.models.parts import Backbone, Group
    from alp_jax.settings.schema import setting

    class OneLayer(nn.Module):
        width: int

        @nn.compact
        def __call__(self, images, *, train):
            return [nn.relu(nn.Conv(self.width, (4, 4), 4, name="patches")(images))]

    @dataclasses.dataclass(frozen=True)
    class OneLayerSettings(Backbone):
        width: int = setting(6, "Channels.", at_least=1)
        stage_channels = property(lambda self: (self.width,))

        def create(self, dtype):
            return OneLayer(self.width)

        def group(self, path):
            return Group("backbone")

    BACKBONE = OneLayerSettings
"""
TERM = """
    import dataclasses
    import jax.numpy as jnp
    from alp_jax.objective import maps
    from alp_jax.objective.types import Contribution, Term

    @dataclasses.dataclass(frozen=True)
    class Entropy(Term):
        views = property(lambda self: ("target",))
        heads = property(lambda self: ("main",))

        def loss(self, seen):
            value = jnp.mean(maps.entropy(seen.outputs.logits["main"]))
            return Contribution(value, {f"loss/{self.name}": value})

    TERM = Entropy
"""
METHOD = """
    from alp_jax.models.settings import backbone
    from alp_jax.objective.settings import term, view

    def apply(config):
        config.model.backbone = backbone("{folder}/one_layer.py")
        config.views.source = view("images", domain="source")
        config.views.target = view("images", domain="target", moves_statistics=False)
        config.terms.cross_entropy = term("cross_entropy")
        config.terms.entropy = term("{folder}/entropy.py", weight=0.1)
"""
EXPERIMENT = """
    from configs import default

    def get_config(variant):
        config = default.get_config(variant)
        with config.unlocked():
            config.num_steps, config.log_every_steps, config.tensorboard = 4, 2, False
            config.data.update(
                data_dir="{folder}/datasets", label_set="{folder}/classes.yaml",
                source="mine/labelled", target="mine/unlabelled",
                source_size=(16, 24), target_size=(16, 24), batch_size=2,
            )
            config.model.heads.main.dilations = (1,)
            config.evaluation.update(dataset="mine/labelled", split="train", every_steps=2)
            config.checkpoint.every_steps = 2
            config.mesh.update(data=1, space=1)
        return config
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Writes the six files, and two images with labels; prepares the dataset."""
    folder = tmp_path_factory.mktemp("own")
    texts = {
        "mine.py": DATASET, "classes.yaml": LABEL_SET, "one_layer.py": BACKBONE,
        "entropy.py": TERM, "method.py": METHOD, "experiment.py": EXPERIMENT,
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(textwrap.dedent(text).replace("{folder}", str(folder)))
    raw, rng = folder / "raw", np.random.default_rng(0)
    raw.mkdir()
    for name in ("a", "b"):
        image = rng.integers(0, 256, (16, 24, 3)).astype(np.uint8)
        Image.fromarray(image).save(raw / f"{name}.png")
        label = rng.integers(0, 3, (16, 24)).astype(np.uint8)
        Image.fromarray(label).save(raw / f"{name}_label.png")
    command = [sys.executable, str(folder / "mine.py")]
    done = subprocess.run(
        [*command, f"--raw_dir={raw}", f"--data_dir={folder / 'datasets'}", "--workers=1"],
        env={**os.environ, "PYTHONPATH": str(commands.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run(module: str, *arguments: str) -> str:
    done = commands.call(module, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_new_files_train_resume_evaluate_predict_and_export(folder):
    workdir, main = folder / "run", "alp_jax.main"
    config = f"--config={folder / 'experiment.py'}:{folder / 'method.py'}"
    run(main, config, f"--workdir={workdir}", "--config.num_steps=2")
    run(main, config, f"--workdir={workdir}")
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert all(0 < line["loss/entropy"] <= 1 for line in lines)
    run(main, "--mode=evaluate", f"--workdir={workdir}")
    scores = json.loads((workdir / "evaluation" / "step_4.json").read_text())
    assert list(scores["iou_per_class"]) == ["ground", "vehicles"]
    run(main, "--mode=predict", f"--workdir={workdir}", f"--input={folder / 'raw'}",
        f"--output={folder / 'predicted'}")  # fmt: skip
    found = np.unique(np.asarray(Image.open(folder / "predicted" / "label_ids" / "a.png")))
    assert set(found.tolist()) <= {5, 9}
    run("alp_jax.export", f"--workdir={workdir}", f"--output={folder / 'exported'}")
    described = json.loads((folder / "exported" / "segmenter.json").read_text())
    assert [found["label_id"] for found in described["classes"]] == [5, 9]
