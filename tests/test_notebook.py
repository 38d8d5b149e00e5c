"""The Colab notebook from top to bottom on the CPU, with few images, steps and channels."""

import os
import pathlib
import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.commands import ROOT

PATH = ROOT / "notebooks" / "alp_jax_colab.ipynb"
PARAMETERS = """
WARMUP_STEPS = 2
STEPS = 2
CITY_FLAGS = ["--num_train=8", "--num_eval=4", "--workers=1"]
OVERRIDES = [
    "--config.data.source=toy_cities/source_train8_eval4",
    "--config.data.target=toy_cities/target_unlabelled_train8",
    "--config.evaluation.dataset=toy_cities/target_eval4",
    "--config.evaluation.batch_size=4",
    "--config.log_every_steps=1",
    "--config.tensorboard=False",
    "--config.data.batch_size=2",
    "--config.model.backbone.stem_widths=4,4",
    "--config.model.backbone.depths=1",
    "--config.model.backbone.widths=4",
    "--config.model.backbone.strides=1",
    "--config.model.backbone.dilations=1",
    "--config.model.heads.main.dilations=1",
]
FULL_SIZE = False
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in a folder of its own."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "configs").symlink_to(ROOT / "configs")
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    (parameters,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", ())]
    parameters.source = PARAMETERS
    client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("JAX_PLATFORMS", "cpu")
        # The kernel's connection would otherwise warn about a package of ours that is not there.
        patch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        client.execute()
    if where := os.environ.get("ALP_JAX_KEEP_NOTEBOOK"):  # To look at it.
        nbformat.write(notebook, pathlib.Path(where))
    return notebook


def outputs_of(notebook: nbformat.NotebookNode, start: str) -> list[nbformat.NotebookNode]:
    (cell,) = [c for c in notebook.cells if c.cell_type == "code" and start in c.source]
    return cell.outputs


def text_of(outputs: list[nbformat.NotebookNode]) -> str:
    plain = [o.get("data", {}).get("text/plain", "") for o in outputs]
    return "".join([o.get("text", "") for o in outputs] + plain)


def test_every_cell_ran(executed):
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]


def test_the_device_is_named(executed):
    said = text_of(outputs_of(executed, "describe_devices"))
    assert re.search(r"computes on \d CPU", said)
    assert "Change runtime type" in said or "pip install" in said


@pytest.mark.parametrize(
    "start", ["cities.png", "draw_curves(RUNS)", 'draw_evaluation(evaluations["', "segmenter.pre"]
)
def test_pictures_are_shown(executed, start):
    pictures = [o.data["image/png"] for o in outputs_of(executed, start) if "data" in o
                and "image/png" in o.data]  # fmt: skip
    assert len(pictures) == 1
    assert len(pictures[0]) > 20_000


def test_training_shows_a_bar_and_scores(executed):
    outputs = outputs_of(executed, 'train("alp_gi"')
    widgets = [
        o for o in outputs if "application/vnd.jupyter.widget-view+json" in o.get("data", {})
    ]
    assert len(widgets) == 2  # A live bar for each run.
    assert "mean IoU" in text_of(outputs)
    scores = text_of(outputs_of(executed, "for name, evaluation in evaluations"))
    assert "source-only" in scores
    assert "toy_cities/target_eval4 test, 4 images, step 2" in scores


def test_nothing_is_committed_with_outputs():
    notebook = nbformat.read(PATH, as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")]
