"""The exported program: where this package cannot be imported, with the same result."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import ExifTags, Image

from alp_jax.evaluation.segmenter import load_segmenter
from alp_jax.export import program
from tests import tiny
from tests.commands import call, read_error

# Runs a script where this package and the network library cannot be imported.
ALONE = """
import runpy, sys
for name in ("alp_jax", "flax", "clu", "orbax", "grain", "tensorflow", "matplotlib"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    example = tiny.make_example(1)["image"]
    return np.asarray(Image.fromarray(example).resize((70, 50)))


@pytest.fixture(scope="module")
def exported(saved_run, tmp_path_factory):
    """The folder that the command writes, for images of 50x70."""
    folder = tmp_path_factory.mktemp("exported") / "new"
    result = call(
        "alp_jax.export", f"--workdir={saved_run}", f"--output={folder}", "--label_size=50,70"
    )
    assert result.returncode == 0, result.stderr
    assert "Exported step 6" in result.stderr
    return folder


def test_the_example_gives_the_same_label_map_without_this_package(
    saved_run, exported, image, tmp_path
):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # A quarter turn to the right makes it upright.
    Image.fromarray(np.rot90(image)).save(tmp_path / "image.png", exif=exif)
    command = [sys.executable, "-c", ALONE, exported / "predict.py", "image.png", "labels.png"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}

    def run(*arguments):
        return subprocess.run(
            [*command[:4], *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    result = run(*command[4:])
    assert result.returncode == 0, result.stderr
    assert run("--help").stderr.startswith("Give an image and the PNG file to write: ")
    (prediction,) = load_segmenter(saved_run).predict([image])
    labels = np.asarray(Image.open(tmp_path / "labels.png"))
    np.testing.assert_array_equal(labels, prediction.label_ids)
    assert len(np.unique(labels)) > 3


def test_any_batch_and_every_platform(saved_run, exported):
    loaded = jax.export.deserialize((exported / program.PROGRAM).read_bytes())
    assert loaded.platforms == ("cpu", "cuda", "tpu")
    segmenter = load_segmenter(saved_run)
    images = np.stack([tiny.make_example(seed)["image"] for seed in range(4)])
    for count in (1, 4):
        label_ids, entropy = loaded.call(images[:count])
        assert label_ids.shape == entropy.shape == (count, 50, 70)
        assert label_ids.dtype == np.uint8
    ours = segmenter.predict(list(images))
    # At the network's own size, which is that of these images.
    whole = program.export_program(segmenter, segmenter.size)
    label_ids, entropy = whole.call(images)
    for index, prediction in enumerate(ours):
        np.testing.assert_array_equal(label_ids[index], prediction.label_ids)
        np.testing.assert_allclose(entropy[index], prediction.entropy, atol=1e-5)


def test_the_description_says_what_goes_in_and_out(exported):
    description = json.loads((exported / program.DESCRIPTION).read_text())
    assert description["image_size"] == [32, 48]
    assert description["label_size"] == [50, 70]
    assert description["classes"][0] == {"name": "road", "label_id": 7, "colour": [128, 64, 128]}
    assert len(description["classes"]) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=out"], "Exporting needs --workdir"),
        (["--workdir=run", "--output=out", "--label_size=0,4"], "--label_size is '0,4': expected"),
    ],
)
def test_wrong_input_ends_in_one_sentence(arguments, message):
    assert message in read_error(call("alp_jax.export", *arguments))
