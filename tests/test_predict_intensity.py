"""Images of more than 8 bits are predicted as they are prepared: by the user's choice, or not."""

import numpy as np
from PIL import Image

from alp_jax.data.images import decode_rgb
from alp_jax.data.intensity import parse_intensity
from tests.commands import call


def predict(workdir, images, output, *flags):
    return call(
        "alp_jax.main", "--mode=predict", f"--workdir={workdir}", f"--input={images}",
        f"--output={output}", *flags,
    )  # fmt: skip


def test_the_choice_of_preparation_is_a_flag_of_predict(saved_run, tmp_path):
    values = np.random.default_rng(0).integers(7_000, 8_201, (32, 48)).astype(np.uint16)
    for name in ("thermal", "prepared", "both"):
        (tmp_path / name).mkdir()
    Image.fromarray(values).save(tmp_path / "thermal/a.png")
    pixels = decode_rgb(
        (tmp_path / "thermal/a.png").read_bytes(), intensity=parse_intensity("7000,8200")
    )
    Image.fromarray(pixels).save(tmp_path / "prepared/a.png")
    for name, flags in (("thermal", ["--intensity=7000,8200"]), ("prepared", [])):
        done = predict(saved_run, tmp_path / name, tmp_path / f"{name}_out", *flags)
        assert done.returncode == 0, done.stderr
    outputs = [
        np.asarray(Image.open(tmp_path / f"{name}_out/entropy/a.png"))
        for name in ("thermal", "prepared")
    ]
    np.testing.assert_array_equal(*outputs)

    Image.fromarray(values).save(tmp_path / "both/a.png")
    Image.fromarray(pixels).save(tmp_path / "both/b.png")
    done = predict(saved_run, tmp_path / "both", tmp_path / "both_out")
    assert done.returncode == 1
    assert "a.png has " in done.stderr
    assert "say how 16 bits become 8 with --intensity: MIN,MAX (" in done.stderr
    assert (tmp_path / "both_out/label_ids/b.png").exists()


def test_a_wrong_choice_is_one_sentence(saved_run, tmp_path):
    done = predict(saved_run, tmp_path, tmp_path / "out", "--intensity=8,7")
    assert done.returncode == 2
    assert "intensity is '8,7': expected MIN,MAX" in done.stderr
