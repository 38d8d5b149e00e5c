"""What predict takes of an input, what it lists instead, and what stays in a used folder."""

import json
import os
import pathlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from alp_jax.data import images, opening, videos, walk
from alp_jax.data.frames import find_frames
from alp_jax.errors import UserError
from alp_jax.evaluation import folders
from alp_jax.evaluation.segmenter import load_segmenter
from tests import pictures, tiny
from tests.commands import call
from tests.test_predict import make_image, write_video
from tests.test_walk import write_odd

KINDS = ("label_ids", "colour", "overlay", "entropy")


@pytest.fixture(scope="module")
def segmenter(saved_run):
    return load_segmenter(saved_run)


def save(path: pathlib.Path, seed: int = 0, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_image(seed, *size)).save(path)


def list_outputs(output: pathlib.Path) -> set[str]:
    """Names that every kind of output has."""
    found = [
        {
            path.relative_to(output / kind).with_suffix("").as_posix()
            for path in (output / kind).rglob("*.png")
        }
        for kind in KINDS
    ]
    assert all(names == found[0] for names in found)
    return found[0]


# Files that hold several pictures ----------------------------------------------------------------


@pytest.mark.parametrize("name", pictures.SEVERAL)
def test_every_picture_of_a_file_is_a_frame(tmp_path, name):
    colours = pictures.save_pictures(tmp_path / name, 4)
    found = find_frames(tmp_path)
    assert found.total == 4
    frames = list(found)
    stem = name.partition(".")[0]
    assert [frame.name for frame in frames] == [f"{stem}/{n:06d}" for n in range(1, 5)]
    assert frames[2].source == f"{tmp_path / name}, frame 3"
    for frame, colour in zip(frames, colours, strict=True):
        pixels = frame.read()
        assert pixels.shape == (32, 48, 3)
        assert np.abs(pixels.astype(int) - colour).max() < 12  # Lossy formats.


@pytest.mark.parametrize("name", pictures.SEVERAL)
def test_one_picture_has_the_name_of_its_file(tmp_path, name):
    pictures.save_pictures(tmp_path / name, 1)
    (frame,) = find_frames(tmp_path)
    assert frame.name == name.partition(".")[0]
    assert frame.read().shape == (32, 48, 3)


@pytest.mark.parametrize("name", ["a.gif", "c.tif", "d.png"])
def test_a_file_that_is_cut_short_gives_the_pictures_before_and_a_failure(tmp_path, name):
    path = tmp_path / name
    first, *others = (Image.fromarray(make_image(seed, 64, 64)) for seed in range(4))
    first.save(path, save_all=True, append_images=others)
    path.write_bytes(path.read_bytes()[: int(0.7 * path.stat().st_size)])
    *_, last = find_frames(path)
    with pytest.raises(images.ImageError, match="cannot be decoded"):
        last.read()


def test_copies_of_a_picture_in_its_file_are_no_frames(tmp_path):
    whole, small = Image.fromarray(make_image(0, 32, 48)), Image.fromarray(make_image(0, 16, 24))
    small.encoderinfo = {"tiffinfo": {254: 1}}  # NewSubfileType: reduced resolution.
    for name, order in {"a.tif": (whole, small), "b.tif": (small, whole)}.items():
        info = {"tiffinfo": {254: int(order[0] is small)}}
        order[1].encoderinfo = {"tiffinfo": {254: int(order[1] is small)}}
        order[0].save(tmp_path / name, save_all=True, append_images=[order[1]], **info)
    pictures.save_pictures(tmp_path / "c.jpg", 3, "MPO")
    found = find_frames(tmp_path)
    assert [frame.name for frame in found] == ["a", "b", "c"]
    for frame in [*found][:2]:
        np.testing.assert_array_equal(frame.read(), np.asarray(whole))
    assert walk.count_passed_over(found.passed_over) == [
        "further pictures in files of which the main one is taken: 3 (a.tif, b.tif, c.jpg)"
    ]
    reasons = [one.reason for one in found.passed_over]
    assert reasons[2] == "holds 2 previews or smaller copies, which are not taken"


def test_several_pictures_of_16_bits_per_channel_are_refused(tmp_path):
    import cv2

    pages = [np.full((8, 8, 3), 1000 * number, np.uint16) for number in range(2)]
    assert cv2.imwritemulti(str(tmp_path / "a.tif"), pages)
    (frame,) = find_frames(tmp_path)
    with pytest.raises(images.ImageError, match="pictures of 16 bits per channel, at picture 1"):
        frame.read()


# Videos ------------------------------------------------------------------------------------------

CODECS = {
    "mp4": "mp4v", "avi": "MJPG", "mov": "mp4v", "mkv": "mp4v", "m4v": "mp4v", "mpg": "mpg1",
    "mpeg": "mpg2", "wmv": "WMV2", "ts": "mpg2", "mts": "mpg2", "flv": "FLV1", "3gp": "mp4v",
}  # fmt: skip


def write_any_video(path: pathlib.Path, num_frames: int) -> None:
    import cv2

    code = cv2.VideoWriter.fourcc(*CODECS[path.suffix[1:]])
    writer = cv2.VideoWriter(str(path), code, 25, (48, 32))
    for seed in range(num_frames):
        writer.write(tiny.make_example(seed)["image"][:, :, ::-1])
    writer.release()


def test_videos_in_a_folder_are_read_frame_by_frame(tmp_path, capfd):
    save(tmp_path / "a.png")
    for ending in CODECS:
        write_any_video(tmp_path / f"{ending}.{ending}", 12)
        os.replace(tmp_path / f"{ending}.{ending}", tmp_path / f"{ending}.{ending.upper()}")
    (tmp_path / "module.ts").write_text("export const G = 1;\n" * 50)
    found = find_frames(tmp_path)
    names = [frame.name for frame in found]
    expected = [f"{ending}/{number:06d}" for ending in CODECS for number in range(1, 13)]
    assert sorted(names) == sorted(["a", *expected])
    assert all(frame.read().shape[2] == 3 for frame in found)
    assert [one.path for one in found.passed_over] == ["module.ts"]
    capfd.readouterr()  # FFmpeg's remarks.


def test_a_video_of_any_name_is_read(tmp_path):
    for name in (b"a:b.mp4", b"%d.mp4", b"\xff\xfe.mp4", b"new\nline.mp4", b"http:x.mp4"):
        write_video(tmp_path / "plain.mp4", 2)
        os.replace(os.fsencode(tmp_path / "plain.mp4"), os.path.join(os.fsencode(tmp_path), name))
    found = find_frames(tmp_path)
    assert found.total == 10
    assert len([frame.read() for frame in found]) == 10
    assert len(list(videos.decode(pathlib.Path(os.fsdecode(tmp_path / "%d.mp4"))))) == 2


# What is listed ----------------------------------------------------------------------------------


def test_everything_that_has_no_prediction_is_listed(saved_run, tmp_path):
    root, output = tmp_path / "in", tmp_path / "out"
    save(root / "a.png")
    save(root / "day" / "b.png")
    save(tmp_path / "elsewhere" / "c.png")
    (root / "link").symlink_to("../elsewhere")
    (root / "again").symlink_to("day")
    (root / "gone.png").symlink_to("nowhere")
    (root / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (root / "camera.NEF").write_bytes(b"II*\0" + bytes(40))
    (root / "notes.txt").write_text("no image")
    (root / "labels.json").write_text("{}")
    save(root / ".thumbnails" / "a.png")
    call_arguments = [f"--workdir={saved_run}", f"--input={root}", f"--output={output}"]
    done = call("alp_jax.main", "--mode=predict", *call_arguments)
    assert done.returncode == 1
    assert list_outputs(output) == {"a", "day/b", "link/c"}
    for line in (
        "Not predicted, not images or videos by their ending: 2 (labels.json, notes.txt).",
        "Not predicted, hidden: 1 (.thumbnails).",
        "Not predicted, folders that are read already: 1 (again).",
        "3 could not be predicted:",
        f"  {root}/gone.png is a link to nothing",
        f"  {root}/phone.HEIC is a HEIC image, which is not read here: convert it to PNG or JPEG",
        f"  {root}/camera.NEF is a camera's raw file, which is not read: develop it to PNG or JPEG",
    ):
        assert line in done.stderr
    summary = json.loads((output / "predictions.json").read_text())
    assert list(summary["images"]) == ["a", "day/b", "link/c"]
    assert {pathlib.Path(path).name for path in summary["failed"]} == {
        "gone.png", "phone.HEIC", "camera.NEF"
    }  # fmt: skip
    assert summary["passed_over"] == {
        ".thumbnails": "is hidden, or a system's own",
        "again": "is the same folder as day",
        "labels.json": "is no image or video",
        "notes.txt": "is no image or video",
    }


def test_other_files_alone_are_no_failure(segmenter, tmp_path):
    save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "notes.txt").write_text("")
    result = folders.predict_to_folder(segmenter, tmp_path / "in", tmp_path / "out")
    assert not result.failed
    assert [one.path for one in result.passed_over] == ["notes.txt"]


def test_images_of_any_name_are_predicted(segmenter, tmp_path):
    names = write_odd(tmp_path / "in")
    result = folders.predict_to_folder(segmenter, tmp_path / "in", tmp_path / "out")
    assert not result.failed
    assert sorted(result.written) == names
    assert {path.stem for path in (tmp_path / "out" / "colour").iterdir()} == set(names)
    summary = json.loads((tmp_path / "out" / "predictions.json").read_bytes().decode("ascii"))
    assert sorted(summary["images"]) == names


def test_names_that_cannot_be_written_do_not_stop_the_others(segmenter, tmp_path):
    fits, long = "x" * 251, "y" * 252  # NAME.png has at most 255 bytes.
    for name in (f"{fits}.jpg", f"{long}.b", "c.png"):
        save(tmp_path / "in" / "a.png")
        os.replace(tmp_path / "in" / "a.png", tmp_path / "in" / name)
    result = folders.predict_to_folder(segmenter, f"{tmp_path}/in/*", tmp_path / "out")
    assert result.failed == {
        f"{tmp_path}/in/{long}.b": f"cannot be written as {long}.png (File name too long)"
    }
    assert list_outputs(tmp_path / "out") == {"c", fits}


def test_outputs_that_would_be_file_and_folder_are_said(segmenter, tmp_path):
    for name in ("a.bmp", "a.png/b.bmp", "c.png/d.png", "c.bmp/d.bmp/e.bmp"):
        save(tmp_path / "in" / name)
    result = folders.predict_to_folder(segmenter, tmp_path / "in", tmp_path / "out")
    assert list(result.written) == ["a", "c.bmp/d.bmp/e", "c.png/d"]
    assert result.failed == {
        f"{tmp_path}/in/a.png/b.bmp": f"would have outputs where {tmp_path}/in/a.bmp has a folder "
        "or a file: rename one"
    }


# Large images ------------------------------------------------------------------------------------


def write_bomb(path: pathlib.Path, height: int, width: int) -> None:
    """A PNG of few bytes that claims many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        content = kind + data
        return struct.pack(">I", len(data)) + content + struct.pack(">I", zlib.crc32(content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data)


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp", "gif", "bmp"])
def test_the_limit_of_pixels_is_the_callers(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    Image.fromarray(make_image(0, 1100, 1000)).save(path)
    data = path.read_bytes()
    assert images.decode_rgb(data).shape == (1100, 1000, 3)
    with pytest.raises(images.ImageError) as refused:
        images.decode_rgb(data, max_pixels=1_050_000)
    assert str(refused.value) == (
        "is 1100x1000 (height x width), 1 megapixels, more than the 1 that are read: give "
        "--max_megapixels=2 if that is right"
    )
    with opening.limiting_pixels(10**6), pytest.raises(images.ImageError):
        images.decode_rgb(data)
    assert images.decode_rgb(data).shape == (1100, 1000, 3)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # A user's own is for the user's own calls.
        assert images.decode_rgb(data, max_pixels=2_000_000).shape == (1100, 1000, 3)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_large_photograph_is_told_the_option_and_a_bomb_is_not_unpacked(tmp_path):
    write_bomb(tmp_path / "bomb.png", 60_000, 60_000)
    write_bomb(tmp_path / "photo.png", 9_000, 12_000)
    reasons = {}
    for frame in find_frames(tmp_path):
        with pytest.raises(images.ImageError) as refused:
            frame.read()
        reasons[frame.name] = str(refused.value)
    assert reasons == {
        "bomb": "is 60000x60000 (height x width), 3,600 megapixels, more than the 89 that are "
        "read: give --max_megapixels=3600 if that is right",
        "photo": "is 9000x12000 (height x width), 108 megapixels, more than the 89 that are read: "
        "give --max_megapixels=108 if that is right",
    }
    bomb, photo = find_frames(tmp_path, max_pixels=108_000_000)
    with pytest.raises(images.ImageError, match="3,600 megapixels, more than the 108"):
        bomb.read()
    with pytest.raises(images.ImageError, match="image file is truncated"):  # It was unpacked.
        photo.read()


def test_the_limit_by_command(saved_run, tmp_path):
    save(tmp_path / "in" / "a.png", size=(40, 60))
    save(tmp_path / "in" / "b.png")
    arguments = [f"--workdir={saved_run}", f"--input={tmp_path}/in", f"--output={tmp_path}/out"]
    limited = [*arguments, "--max_megapixels=0.002"]
    done = call("alp_jax.main", "--mode=predict", *limited, "--proportions=windows")
    assert done.returncode == 1
    assert "a.png is 40x60 (height x width), 0.0024 megapixels, more than the 0.002" in done.stderr
    done = call("alp_jax.main", "--mode=predict", *arguments, "--max_megapixels=0.0024")
    assert done.returncode == 0, done.stderr
    assert list_outputs(tmp_path / "out") == {"a", "b"}


# A folder of earlier predictions -----------------------------------------------------------------


def test_earlier_predictions_do_not_stay_beside_new_ones(segmenter, tmp_path):
    output = tmp_path / "out"
    for name in ("day/a", "day/b", "c"):
        save(tmp_path / "first" / f"{name}.png")
    save(tmp_path / "second" / "c.png", seed=5)
    folders.predict_to_folder(segmenter, tmp_path / "first", output, with_probabilities=True)
    (output / "label_ids" / "day" / "own.png").write_bytes(b"a user's")
    (output / "report.md").write_text("a user's")
    folders.predict_to_folder(segmenter, tmp_path / "second", output)
    assert json.loads((output / "predictions.json").read_text())["images"].keys() == {"c"}
    found = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    assert found == sorted([
        ".alp_jax", "predictions.json", "legend.png", *(f"{kind}/c.png" for kind in KINDS),
        "label_ids/day/own.png", "report.md",
    ])  # fmt: skip
    assert not (output / "probabilities").exists()
    assert not (output / "colour" / "day").exists()


@pytest.mark.parametrize("name", ["a", "b"])
def test_predictions_that_were_changed_are_not_replaced(segmenter, tmp_path, name):
    for each in ("a", "b"):
        save(tmp_path / "in" / f"{each}.png")
    folders.predict_to_folder(segmenter, tmp_path / "in", tmp_path / "out")
    changed = tmp_path / "out" / "label_ids" / f"{name}.png"
    changed.write_bytes(b"corrected by hand")
    later = (tmp_path / "out" / "predictions.json").stat().st_mtime_ns + 10**9
    os.utime(changed, ns=(later, later))
    (tmp_path / "in" / "b.png").unlink()
    with pytest.raises(UserError, match=r"\.png was changed after it was predicted, and predict"):
        folders.predict_to_folder(segmenter, tmp_path / "in", tmp_path / "out")
    assert changed.read_bytes() == b"corrected by hand"
    assert list_outputs(tmp_path / "out") == {"a", "b"}
    changed.unlink()
    folders.predict_to_folder(segmenter, tmp_path / "in", tmp_path / "out")
    assert list_outputs(tmp_path / "out") == {"a"}


def test_a_file_that_a_user_put_where_an_output_goes_is_not_replaced(segmenter, tmp_path):
    for each in ("a", "b"):
        save(tmp_path / "in" / f"{each}.png")
    folders.predict_to_folder(segmenter, tmp_path / "in", tmp_path / "out")
    save(tmp_path / "in" / "c.png")
    own = tmp_path / "out" / "overlay" / "c.png"
    own.write_bytes(b"a user's")
    result = folders.predict_to_folder(segmenter, tmp_path / "in", tmp_path / "out")
    assert result.failed == {f"{tmp_path}/in/c.png": "cannot be written as c.png (File exists)"}
    assert own.read_bytes() == b"a user's"
    assert not (tmp_path / "out" / "label_ids" / "c.png").exists()


def test_files_of_an_interrupted_prediction_are_removed_by_the_next(
    segmenter, tmp_path, monkeypatch
):
    output = tmp_path / "out"
    save(tmp_path / "zero" / "z.png")
    folders.predict_to_folder(segmenter, tmp_path / "zero", output)
    for number in range(8):
        save(tmp_path / "first" / f"{number}.png")
    save(tmp_path / "second" / "new.png")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folders.PredictionFiles, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            folders.predict_to_folder(segmenter, tmp_path / "first", output)
    assert list_outputs(output) == set("01234567")
    assert not (output / "predictions.json").exists()
    folders.predict_to_folder(segmenter, tmp_path / "second", output)
    assert list_outputs(output) == {"new"}
    assert not [path for path in output.iterdir() if path.name.startswith(".unf")]


def test_earlier_predictions_stay_where_nothing_new_can_be_predicted(segmenter, tmp_path):
    save(tmp_path / "in" / "a.png")
    output = tmp_path / "out"
    folders.predict_to_folder(segmenter, tmp_path / "in", output)
    (tmp_path / "in" / "a.png").write_bytes(b"damaged")
    before = (output / "predictions.json").read_bytes()
    with pytest.raises(UserError, match=r"could be predicted: .*a\.png cannot be decoded"):
        folders.predict_to_folder(segmenter, tmp_path / "in", output)
    assert list_outputs(output) == {"a"}
    assert (output / "predictions.json").read_bytes() == before


def test_names_in_an_earlier_summary_that_lead_elsewhere_remove_nothing(segmenter, tmp_path):
    save(tmp_path / "in" / "a.png")
    save(tmp_path / "photos" / "mine.png")
    output = tmp_path / "out"
    folders.predict_to_folder(segmenter, tmp_path / "in", output)
    summary = json.loads((output / "predictions.json").read_text())
    for name in ("../../photos/mine", f"{tmp_path}/photos/mine", "no\0name"):
        summary["images"][name] = {}
    (output / "predictions.json").write_text(json.dumps(summary))
    folders.predict_to_folder(segmenter, tmp_path / "in", output)
    assert (tmp_path / "photos" / "mine.png").exists()
    assert list_outputs(output) == {"a"}
