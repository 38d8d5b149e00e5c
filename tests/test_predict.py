"""Prediction of images of any size, as arrays and as files, in the process and by command."""

import json
import os
import pathlib

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

import alp_jax
from alp_jax.data import frames, pipeline
from alp_jax.data.labels import CITYSCAPES_TABLE, load_label_set
from alp_jax.errors import UserError
from alp_jax.evaluation import evaluator, folders
from alp_jax.evaluation.segmenter import load_segmenter
from alp_jax.objective import maps, patches
from alp_jax.workdir import outputs
from tests import tiny
from tests.commands import call, read_error

LABEL_SET = load_label_set("cityscapes_16")
SIZES = [(32, 48), (48, 72), (31, 47), (97, 33), (20, 200), (8, 8), (64, 96), (33, 48), (70, 50),
         (1, 1)]  # fmt: skip


def make_image(seed: int, height: int, width: int) -> np.ndarray:
    """Blocks and noise: [height, width, 3] uint8."""
    example = tiny.make_example(seed)["image"]
    return np.asarray(Image.fromarray(example).resize((width, height)))


@pytest.fixture(scope="module")
def segmenter(saved_run):
    return load_segmenter(saved_run)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> pathlib.Path:
    """Ten images of ten sizes and kinds in folders, a corrupt one, and what is no image."""
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "day").mkdir()
    kinds = ("a.png", "b.jpg", "day/c.bmp", "day/d.webp", "e.tif", "f.png", "g.png", "h.JPG",
             "i.png", "j.png")  # fmt: skip
    for seed, (name, size) in enumerate(zip(kinds, SIZES, strict=True)):
        image = Image.fromarray(make_image(seed, *size))
        options = {}
        if name == "f.png":
            image = image.convert("P")
        elif name == "g.png":
            image.putalpha(100)
        elif name == "h.JPG":
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = 6  # To be turned by a quarter.
        elif name == "i.png":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        image.save(folder / name, **options)
    data = (folder / "a.png").read_bytes()
    (folder / "day" / "corrupt.png").write_bytes(data[: len(data) // 2])
    (folder / "notes.txt").write_text("no image")
    return folder


def count_compilations(function) -> int:
    """How many programs a call compiles, the smallest helpers included."""
    compiled = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        function()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return len(compiled)


def test_ten_sizes_compile_twice_and_a_corrupt_image_stops_nothing(saved_run, mixed, tmp_path):
    fresh = load_segmenter(saved_run, batch_size=3)
    results = []
    jax.clear_caches()  # Another test may have had the same tile.
    compiled = count_compilations(
        lambda: results.append(folders.predict_to_folder(fresh, mixed, tmp_path / "out"))
    )
    assert compiled == 2  # The network and the tile.
    (result,) = results
    assert list(result.failed) == [str(mixed / "day" / "corrupt.png")]
    assert "cannot be decoded" in result.failed[str(mixed / "day" / "corrupt.png")]
    names = ["a", "b", "day/c", "day/d", "e", "f", "g", "h", "i", "j"]
    assert sorted(result.written) == names
    for name, size in zip(names, SIZES, strict=True):
        height, width = size[::-1] if name == "h" else size
        for kind, mode in (("label_ids", "L"), ("colour", "RGB"), ("overlay", "RGB"),
                           ("entropy", "RGB")):  # fmt: skip
            with Image.open(tmp_path / "out" / kind / f"{name}.png") as picture:
                assert (picture.mode, picture.size) == (mode, (width, height))
        ids = np.asarray(Image.open(tmp_path / "out" / "label_ids" / f"{name}.png"))
        assert set(np.unique(ids)) <= {c.label_id for c in LABEL_SET.classes}
        colour = np.asarray(Image.open(tmp_path / "out" / "colour" / f"{name}.png"))
        expected = LABEL_SET.colourise(LABEL_SET.map_table(CITYSCAPES_TABLE)[ids])
        np.testing.assert_array_equal(colour, expected)
    summary = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert list(summary["images"]) == list(result.written)
    assert summary["images"]["a"]["size"] == [32, 48]
    assert summary["failed"] == result.failed
    assert (tmp_path / "out" / "legend.png").stat().st_size > 1000
    assert result.num_stretched == 6  # d, e, f, h, i and j; 9 pixels of 96 are no tenth.


@pytest.mark.parametrize("size", [SIZES[index] for index in (0, 2, 3, 4, 9)])
def test_a_prediction_is_that_of_evaluation_at_the_images_size(segmenter, size):
    image = make_image(3, *size)
    (prediction,) = segmenter.predict([image], with_probabilities=True)
    resized = pipeline.resize(image, segmenter.size, Image.Resampling.BICUBIC)
    ensemble = segmenter.ensemble
    logits = ensemble.predictor.predict(ensemble.variables, resized[None], size)[0]
    probabilities = np.asarray(jax.nn.softmax(logits))
    np.testing.assert_allclose(prediction.probabilities, probabilities, atol=2e-5)
    np.testing.assert_allclose(prediction.entropy, maps.entropy(logits), atol=2e-5)
    # Where two classes are equal to rounding, either may be the larger.
    first, second = np.sort(probabilities, axis=-1)[..., -1:-3:-1].transpose(2, 0, 1)
    clear = first - second > 1e-4
    assert clear.mean() > 0.99 or size == (1, 1)
    np.testing.assert_array_equal(prediction.train_ids[clear], probabilities.argmax(axis=-1)[clear])
    assert len(np.unique(prediction.train_ids)) > 1 or size == (1, 1)


def test_files_are_predicted_as_their_dataset_is_evaluated(saved_run, segmenter, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(250, 250 + tiny.NUM_EVAL):
        (folder / f"{seed:05d}.png").write_bytes(tiny.encode(tiny.make_example(seed)["image"]))
    evaluation = evaluator.evaluate_checkpoint(
        saved_run, None, checkpoint_name="latest", split=None, predictions_dir=tmp_path / "scored"
    )
    result = folders.predict_to_folder(segmenter, folder, tmp_path / "out")
    assert len(result.written) == tiny.NUM_EVAL
    for name in result.written:
        ours = np.asarray(Image.open(tmp_path / "out" / "label_ids" / f"{name}.png"))
        theirs = np.asarray(Image.open(tmp_path / "scored" / f"{name}_labelIds.png"))
        np.testing.assert_array_equal(ours, theirs)
    entropies = [described["mean_entropy"] for described in result.written.values()]
    assert np.mean(entropies) == pytest.approx(evaluation.summary["mean_entropy"], abs=1e-5)


def test_a_batch_gives_what_each_image_gives(segmenter):
    images = [make_image(seed, *size) for seed, size in enumerate(SIZES[:5])]
    together = segmenter.predict(images)
    for image, prediction in zip(images, together, strict=True):
        (alone,) = segmenter.predict([image])
        np.testing.assert_array_equal(prediction.train_ids, alone.train_ids)
        np.testing.assert_array_equal(prediction.image, image)


def test_kept_proportions_fit_inside_and_are_mirrored(saved_run, segmenter):
    keep = load_segmenter(saved_run, proportions="keep")
    image = make_image(5, 64, 48)  # 32x24 of the network's 32x48.
    fitted = keep.fit(image)
    assert fitted.content == (32, 24)
    np.testing.assert_array_equal(fitted.pixels[:, 24:], fitted.pixels[:, :24][:, ::-1])
    (prediction,) = keep.predict([image], with_probabilities=True)
    (member,) = keep.ensemble.members
    logits = keep.ensemble.predictor.predict(
        keep.ensemble.variables, fitted.pixels[None], keep.size
    )
    # Pixel i of 64 lies at i * 31 / 63 of the network's rows, column j of 48 at j * 23 / 47.
    rows = patches.interpolation_matrix(32, 64)
    columns = patches.interpolation_matrix(48, 48, 23.0)
    outputs, _ = member.segmenter.apply(
        member.params, member.model_state, fitted.pixels[None], train=False
    )
    expected = patches.upsample(outputs.logits["main"], keep.size)
    np.testing.assert_array_equal(logits, expected)
    probabilities = jax.nn.softmax(patches.interpolate(expected, rows, columns))[0]
    # Interpolating twice is not once, but where both grids' lines meet.
    np.testing.assert_allclose(prediction.probabilities[0, 0], probabilities[0, 0], atol=1e-5)
    np.testing.assert_allclose(prediction.probabilities[-1, -1], probabilities[-1, -1], atol=1e-5)
    assert np.abs(prediction.probabilities - probabilities).mean() < 0.05
    same = make_image(6, 64, 96)
    (kept,), (stretched,) = keep.predict([same]), segmenter.predict([same])
    np.testing.assert_array_equal(kept.train_ids, stretched.train_ids)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8),
     np.zeros((0, 4, 3), np.uint8)],
)  # fmt: skip
def test_what_is_no_image_is_refused(segmenter, image):
    with pytest.raises(UserError, match=r"An image is an array of .* expected uint8 of shape"):
        segmenter.predict([image])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"proportions": "crop"}, "one of stretch, keep, windows"), ({"batch_size": 0}, "at least 1")],
)
def test_wrong_options_are_refused(saved_run, arguments, message):
    with pytest.raises(UserError, match=message):
        load_segmenter(saved_run, **arguments)


def write_video(path: pathlib.Path, num_frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (48, 32))
    for seed in range(num_frames):
        writer.write(tiny.make_example(seed)["image"][:, :, ::-1])
    writer.release()


def test_frames_of_a_video(segmenter, tmp_path):
    write_video(tmp_path / "drive.mp4", 5)
    result = folders.predict_to_folder(
        segmenter, tmp_path / "drive.mp4", tmp_path / "out", with_probabilities=True
    )
    assert list(result.written) == [f"drive/{number:06d}" for number in range(1, 6)]
    assert not result.failed
    stored = np.load(tmp_path / "out" / "probabilities" / "drive" / "000005.npz")
    assert stored["probabilities"].shape == (32, 48, 16)
    np.testing.assert_allclose(stored["probabilities"].sum(axis=-1), 1, atol=5e-3)
    ids = np.asarray(Image.open(tmp_path / "out" / "label_ids" / "drive" / "000005.png"))
    best = stored["label_ids"][stored["probabilities"].argmax(axis=-1)]
    assert (best == ids).mean() > 0.98  # Ties of half precision.


def test_a_file_that_is_no_video_is_listed(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (frame,) = frames.find_frames(tmp_path / "broken.mp4")
    with pytest.raises(frames.ImageError, match="ends after 0 of 1 frames"):
        frame.read()


def test_patterns_name_outputs_below_what_is_fixed(mixed):
    found = frames.find_frames(f"{mixed}/d*/*.webp")
    assert [frame.name for frame in found] == ["day/d"]
    assert [frame.name for frame in frames.find_frames(mixed / "e.tif")] == ["e"]
    assert frames.find_frames(mixed).total == 11


def test_two_images_of_one_name_do_not_overwrite_each_other(segmenter, tmp_path):
    for ending in ("png", "bmp"):
        Image.fromarray(make_image(1, 8, 8)).save(tmp_path / f"one.{ending}")
    result = folders.predict_to_folder(segmenter, f"{tmp_path}/one.*", tmp_path / "out")
    assert list(result.written) == ["one"]
    assert f"same outputs as {tmp_path / 'one.bmp'}" in result.failed[str(tmp_path / "one.png")]


def test_predicting_by_command(saved_run, mixed, tmp_path):
    arguments = ["--mode=predict", f"--workdir={saved_run}", f"--output={tmp_path / 'out'}"]
    result = call("alp_jax.main", *arguments, f"--input={mixed}", "--probabilities")
    assert result.returncode == 1, result.stderr
    assert "1 could not be predicted:\n  " in result.stderr
    assert "corrupt.png cannot be decoded" in result.stderr
    assert "Predicted 10 images" in result.stderr
    assert "--proportions=keep" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(list((tmp_path / "out").rglob("*.npz"))) == 10


def test_an_input_without_images_is_refused(segmenter, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    for given, message in {
        "nowhere": r"nowhere' does not exist: expected a folder, an image, a video, or a pattern",
        "nowhere/*.png": r"png' cannot be read, because '.*nowhere' does not exist: expected a",
        "notes/*.png": r"No file matches the input '.*notes/\*\.png' \(nothing of that name\): exp",
        "not*": r"\(folders that the pattern does not search: 1 \(notes\)\): expected a pattern",
        "empty": r"empty' has no image or video \(it is empty\): expected images \(png, jpg",
        "notes": r"has no image or video \(not images or videos by their ending: 1 \(a.txt\)\)",
        "link": "link' is a link to nothing: expected",
        "pipe": "pipe' is neither a file nor a folder: expected",
        "notes/a.txt/b": "a.txt/b' does not exist",
        "x" * 300: "cannot be read \\(File name too long\\)",
    }.items():
        with pytest.raises(UserError, match=message):
            folders.predict_to_folder(segmenter, tmp_path / given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_input_of_which_nothing_can_be_read_is_one_sentence(saved_run, tmp_path):
    (tmp_path / "a.txt").write_text("no image")
    output = tmp_path / "out"
    arguments = ["--mode=predict", f"--workdir={saved_run}", f"--output={output}"]
    error = read_error(call("alp_jax.main", *arguments, f"--input={tmp_path}/a.txt"))
    assert error.startswith(
        f"Nothing of the input '{tmp_path}/a.txt' could be predicted: {tmp_path}"
    )
    assert error.endswith("a.txt cannot be decoded (cannot identify image file).")
    assert os.listdir(output) == [outputs.MARK]
    for number in range(5):
        (tmp_path / f"{number}.png").write_bytes(b"")
    error = read_error(call("alp_jax.main", *arguments, f"--input={tmp_path}/*.png"))
    assert "2.png cannot be decoded (cannot identify image file); and 2 more." in error


def test_an_output_inside_the_input_is_refused(segmenter, mixed):
    with pytest.raises(UserError, match=r"lies in the input .*: give a folder beside it"):
        folders.predict_to_folder(segmenter, mixed, mixed / "out")
    assert not (mixed / "out").exists()


def write_images(folder: pathlib.Path) -> dict[pathlib.Path, bytes]:
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.full((8, 8, 3), 100, np.uint8)).save(folder / f"{name}.png")
    return {path: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["colour", "overlay", "entropy", "label_ids"])
@pytest.mark.parametrize("given", ["folder", "file", "pattern", "link", "relative"])
def test_images_are_never_replaced_by_predictions(segmenter, tmp_path, monkeypatch, kind, given):
    images = tmp_path / "scene" / kind
    before = write_images(images)
    (tmp_path / "link").symlink_to(images)
    monkeypatch.chdir(images)
    given_as = {
        "folder": images,
        "file": images / "a.png",
        "pattern": f"{images}/*.png",
        "link": tmp_path / "link",
        "relative": "../" + kind,
    }[given]
    with pytest.raises(UserError, match=r"in the output .*, where outputs might replace it"):
        alp_jax.predict_to_folder(segmenter, given_as, tmp_path / "scene")
    assert {path: path.read_bytes() for path in images.iterdir()} == before
    assert os.listdir(tmp_path / "scene") == [kind]


def test_an_output_with_files_of_others_is_refused(segmenter, tmp_path):
    write_images(tmp_path / "images")
    kept = write_images(tmp_path / "scene" / "overlay")
    with pytest.raises(UserError, match=r"holds 'overlay', and is no folder of predictions of"):
        alp_jax.predict_to_folder(segmenter, tmp_path / "images", tmp_path / "scene")
    assert all(path.read_bytes() == data for path, data in kept.items())
    with pytest.raises(UserError, match=r"a\.png is a file: give a new or an empty folder"):
        alp_jax.predict_to_folder(segmenter, tmp_path / "images", tmp_path / "scene/overlay/a.png")


def test_a_folder_of_predictions_takes_predictions_again(segmenter, tmp_path):
    write_images(tmp_path / "images")
    output = tmp_path / "predictions"
    for _ in range(2):
        alp_jax.predict_to_folder(segmenter, tmp_path / "images", output)
    (output / outputs.MARK).unlink()  # As of an earlier version.
    alp_jax.predict_to_folder(segmenter, tmp_path / "images", output)
    with pytest.raises(UserError, match="is no folder of an exported segmenter of this package"):
        alp_jax.export_segmenter(segmenter, output)
