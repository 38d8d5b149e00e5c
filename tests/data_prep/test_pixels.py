"""What becomes of pixels: EXIF orientation of images and labels, sizes, 16 bits, videos."""

import io

import cv2
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from alp_jax.data import intensity, orientation
from alp_jax.data.images import decode_rgb
from data_prep.image_folder import COMMAND
from data_prep.raw import geometry, videos
from data_prep.raw.files import RawFiles
from tests.data_prep import raw_files as raw
from tests.refusals import refusal

IDS = np.array([7, 8, 11, 26])


def prepare(root, *more, labels=True, name="mine"):
    arguments = [f"--labels={root / 'masks'}"] if labels else []
    return COMMAND.main([
        "image_folder", "--workers=1", f"--name={name}", f"--images={root / 'frames'}",
        f"--data_dir={root / 'datasets'}", *arguments, *more,
    ])  # fmt: skip


def examples_of(root, *, labelled=True, name="mine"):
    return raw.read(root / "datasets", f"image_folder/{name}", "train", labelled=labelled)


def error_of(capsys):
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    return line


def tagged(pixels, tag, kind="PNG"):
    """An image file with an EXIF orientation; pixels are as they are stored."""
    exif = Image.Exif()
    if tag:
        exif[0x0112] = tag
    options = {"lossless": True} if kind == "WEBP" else {}
    return raw.file_bytes(Image.fromarray(pixels), kind, exif=exif, **options)


def upright(data):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))


# Orientation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [5, 6, 7, 8])
@pytest.mark.parametrize("view", ["upright", "stored", "stored, half"])
def test_the_size_tells_how_a_label_lies(tmp_path, capsys, tag, view):
    image = tagged(raw.rgb(1, 32, 48), tag)
    stored = raw.values(2, IDS, 32, 48).astype(np.uint8)
    stored = stored[::2, ::2] if "half" in view else stored
    shown = orientation.turn(stored, tag)
    raw.write(tmp_path / "frames", {"a.png": image})
    raw.write(tmp_path / "masks", {"a.png": raw.png(shown if view == "upright" else stored)})
    assert prepare(tmp_path) == 0
    (example,) = examples_of(tmp_path).values()
    np.testing.assert_array_equal(example["image"], upright(image))
    np.testing.assert_array_equal(example["label"], raw.train_ids(shown))
    output = capsys.readouterr().out
    assert ("Labels turned by the EXIF orientation, as their images are: 1" in output) == (
        view != "upright"
    )


UNDECIDED = [(tag, (32, 48)) for tag in (2, 3, 4)] + [(tag, (32, 32)) for tag in (2, 3, 5, 6, 8)]


@pytest.mark.parametrize(("tag", "size"), UNDECIDED)
def test_a_user_says_it_where_the_size_does_not_tell(tmp_path, capsys, tag, size):
    image, stored = tagged(raw.rgb(1, *size), tag), raw.values(2, IDS, *size).astype(np.uint8)
    raw.write(tmp_path / "frames", {"a.png": image})
    raw.write(tmp_path / "masks", {"sub/b.png": b"", "a.png": raw.png(stored)})
    (tmp_path / "masks/sub/b.png").unlink()
    assert prepare(tmp_path) == 2
    message = error_of(capsys)
    assert message.startswith(f"error: a.png belongs to an image with the EXIF orientation {tag},")
    assert "--label_orientation=upright" in message
    assert prepare(tmp_path, "--check") == 1
    assert "--label_orientation=stored" in capsys.readouterr().out
    for view, expected in (("upright", stored), ("stored", orientation.turn(stored, tag))):
        assert prepare(tmp_path, f"--label_orientation={view}", name=view) == 0
        (example,) = examples_of(tmp_path, name=view).values()
        np.testing.assert_array_equal(example["image"], upright(image))
        np.testing.assert_array_equal(example["label"], raw.train_ids(expected))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("tag", [3, 6])
def test_a_label_with_the_orientation_of_its_image_is_turned_with_it(tmp_path, tag, kind):
    stored = raw.values(2, IDS, 32, 48).astype(np.uint8)
    raw.write(tmp_path / "frames", {"a.tiff": tagged(raw.rgb(1, 32, 48), tag, "TIFF")})
    raw.write(tmp_path / "masks", {f"a.{kind.lower()}": tagged(stored, tag, kind)})
    assert prepare(tmp_path) == 0
    (example,) = examples_of(tmp_path).values()
    np.testing.assert_array_equal(example["label"], raw.train_ids(orientation.turn(stored, tag)))
    np.testing.assert_array_equal(example["image"], orientation.turn(raw.rgb(1, 32, 48), tag))


@pytest.mark.parametrize(("tag", "label_tag"), [(1, 3), (6, 8), (3, 6)])
def test_another_orientation_of_the_label_is_refused(tmp_path, capsys, tag, label_tag):
    stored = raw.values(2, IDS, 32, 48).astype(np.uint8)
    raw.write(tmp_path / "frames", {"a.png": tagged(raw.rgb(1, 32, 48), tag)})
    raw.write(tmp_path / "masks", {"a.png": tagged(stored, label_tag)})
    assert prepare(tmp_path) == 2
    expected = f"a.png has the EXIF orientation {label_tag}, but its image {tag}: turn the pixels"
    assert expected in error_of(capsys)


@pytest.mark.parametrize("tag", [None, 1, 0, 9])
def test_images_that_are_upright_are_not_asked_about(tmp_path, tag):
    stored = raw.values(2, IDS, 32, 32).astype(np.uint8)
    raw.write(tmp_path / "frames", {"a.png": tagged(raw.rgb(1, 32, 32), tag)})
    raw.write(tmp_path / "masks", {"a.png": raw.png(stored)})
    assert prepare(tmp_path) == 0
    (example,) = examples_of(tmp_path).values()
    np.testing.assert_array_equal(example["label"], raw.train_ids(stored))


@pytest.mark.parametrize(
    ("image", "label", "words"),
    [
        ((32, 48), (48, 32), "a.png is 48x32 (height x width), but its image 32x48: one of them "
         "lies on its side: turn it"),
        ((32, 48), (96, 64), "one of them lies on its side"),
        ((32, 48), (32, 64), "which has other proportions: crop or resize one of them"),
        ((32, 48), (38, 70), "which has other proportions"),
        ((32, 48), (16, 24), None),
        ((33, 49), (16, 24), None),
        ((32, 48), (64, 96), None),
    ],
)  # fmt: skip
def test_sizes_of_image_and_label(tmp_path, capsys, image, label, words):
    raw.write(tmp_path / "frames", {"a.jpg": raw.jpeg(raw.rgb(1, *image))})
    raw.write(tmp_path / "masks", {"a.png": raw.png(raw.values(2, IDS, *label))})
    status = prepare(tmp_path)
    if words is None:
        assert status == 0
        output = capsys.readouterr().out
        assert "Labels that differ in size from their images, which is allowed: 1" in output
    else:
        assert status == 2
        assert words in error_of(capsys)
        assert prepare(tmp_path, "--check") == 1


@given(hnp.array_shapes(min_dims=2, max_dims=3, max_side=5), st.integers(1, 8))
def test_turning_is_what_pillow_does(shape, tag):
    shape = (*shape[:2], 3) if len(shape) == 3 else shape
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.testing.assert_array_equal(orientation.turn(pixels, tag), upright(tagged(pixels, tag)))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.sampled_from([0, 1]))
def test_a_scaled_label_has_the_proportions_of_its_image(height, width, scale, rest):
    large = (height * scale + min(rest, scale - 1), width * scale)
    assert geometry.are_alike((height, width), large)
    assert geometry.are_alike(large, (height, width))


# 16 bits -----------------------------------------------------------------------------------------


def thermal(shape=(38, 70)):
    return np.random.default_rng(0).integers(7_000, 8_201, shape).astype(np.uint16)


def files_of_16_bits(grey):
    colours = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=-1)
    with_alpha = np.dstack([colours, np.full(grey.shape, 65_535, np.uint16)])
    return {
        "grey.png": (raw.file_bytes(Image.fromarray(grey)), grey),
        "grey_tif.tif": (raw.file_bytes(Image.fromarray(grey), "TIFF"), grey),
        "rgb.png": (cv2.imencode(".png", colours[:, :, ::-1])[1].tobytes(), colours),
        "rgb_tif.tif": (cv2.imencode(".tiff", colours[:, :, ::-1])[1].tobytes(), colours),
        "rgba.png": (
            cv2.imencode(".png", with_alpha[:, :, (2, 1, 0, 3)])[1].tobytes(), colours,
        ),
    }  # fmt: skip


KINDS_16 = list(files_of_16_bits(thermal((2, 2))))


@pytest.mark.parametrize("name", KINDS_16)
def test_16_bits_are_not_cut_silently(tmp_path, capsys, name):
    data, values = files_of_16_bits(thermal())[name]
    raw.write(tmp_path / "frames", {name: data})
    assert prepare(tmp_path, labels=False) == 2
    message = error_of(capsys)
    assert describe(values) in message
    for choice in ("--intensity: MIN,MAX (", "range (", "full ("):
        assert choice in message
    assert prepare(tmp_path, "--check", labels=False) == 1
    assert describe(values) in capsys.readouterr().out
    assert "--intensity" in (refusal_of_decoding(data) or "")


def describe(values):
    levels = len(np.unique(values))
    kept = len(np.unique(values >> 8))
    return (
        f"has {levels:,} different values from {values.min()} to {values.max()}, of which the high "
        f"byte keeps {kept}"
    )


def refusal_of_decoding(data):
    try:
        decode_rgb(data)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("full", lambda values: values >> 8),
        ("range", lambda values: (values - values.min()) * 255 / np.ptp(values)),
        ("7000,8200", lambda values: (values - 7000) * 255 / 1200),
        ("7100,7200", lambda values: (np.clip(values, 7100, 7200) - 7100) * 255 / 100),
        ("0,4095", lambda values: np.full_like(values, 255)),
    ],
)
def test_a_choice_is_kept_by_preparation_and_prediction(tmp_path, choice, expected):
    files = files_of_16_bits(thermal())
    raw.write(tmp_path / "frames", {name: data for name, (data, _) in files.items()})
    assert prepare(tmp_path, f"--intensity={choice}", labels=False) == 0
    examples = examples_of(tmp_path, labelled=False)
    for name, (data, values) in files.items():
        wanted = expected(values.astype(int))
        wanted = np.repeat(wanted[:, :, None], 3, axis=2) if wanted.ndim == 2 else wanted
        found = examples[name.rpartition(".")[0]]["image"]
        assert np.abs(found - wanted).max() <= 0.5, name
        predicted = decode_rgb(data, intensity=intensity.parse_intensity(choice))
        np.testing.assert_array_equal(predicted, found, err_msg=name)


@pytest.mark.parametrize("name", KINDS_16)
@pytest.mark.parametrize(
    ("choice", "share"),
    [("0,4095", "100.0"), ("9000,9999", "100.0"), ("7000,8200", ""), ("full", ""), ("range", "")],
)
def test_limits_that_cut_most_values_off_are_told(tmp_path, capsys, name, choice, share):
    data, _ = files_of_16_bits(thermal())[name]
    raw.write(tmp_path / "frames", {name: data, "8 bits.png": raw.png(raw.rgb(0))})
    words = f"{name} has {share} % of its values outside {choice.replace(',', ' to ')}, as they go"
    for arguments in (["--check"], []):
        assert prepare(tmp_path, f"--intensity={choice}", *arguments, labels=False) == 0
        output = capsys.readouterr().out.casefold()
        assert (words in output) is bool(share)
        assert ("images with most values outside --intensity: 1" in output) is bool(share)


def test_a_share_of_values_outside(tmp_path, capsys):
    values = np.arange(100, dtype=np.uint16).reshape(10, 10) * 100
    raw.write(tmp_path / "frames", {"a.png": raw.file_bytes(Image.fromarray(values))})
    for number, (limits, share) in enumerate({"0,4900": "", "0,4800": "51.0"}.items()):
        name = f"{number}"
        assert prepare(tmp_path, f"--intensity={limits}", labels=False, name=name) == 0
        output = capsys.readouterr().out
        assert ("% of its values outside" in output) is bool(share)
        assert f"{share} % of its values" in output or not share


@pytest.mark.parametrize("factor", [256, 257])
@pytest.mark.parametrize("name", KINDS_16)
def test_8_bits_in_a_file_of_16_lose_nothing(tmp_path, factor, name):
    grey = raw.rgb(0)[:, :, 0].astype(np.uint16) * factor
    data, values = files_of_16_bits(grey)[name]
    raw.write(tmp_path / "frames", {name: data})
    assert prepare(tmp_path, labels=False) == 0
    (example,) = examples_of(tmp_path, labelled=False).values()
    wanted = values >> 8 if values.ndim == 3 else np.repeat(values[:, :, None] >> 8, 3, axis=2)
    np.testing.assert_array_equal(example["image"], wanted)


def test_images_of_8_bits_do_not_depend_on_the_choice(tmp_path):
    raw.write(tmp_path / "frames", {"a.png": raw.png(raw.rgb(0)), "b.jpg": raw.jpeg(raw.rgb(1))})
    assert prepare(tmp_path, "--intensity=0,4095", labels=False) == 0
    (first, second) = examples_of(tmp_path, labelled=False).values()
    np.testing.assert_array_equal(first["image"], raw.rgb(0))
    assert second["image"].shape == raw.rgb(1).shape


@pytest.mark.parametrize("tag", [3, 6, 9])
def test_16_bits_are_turned_too(tmp_path, tag):
    values = thermal((32, 48))
    exif = Image.Exif()
    exif[0x0112] = tag
    raw.write(tmp_path / "frames", {"a.png": raw.file_bytes(Image.fromarray(values), exif=exif)})
    assert prepare(tmp_path, "--intensity=full", labels=False) == 0
    (example,) = examples_of(tmp_path, labelled=False).values()
    expected = orientation.turn(values >> 8, tag % 9)  # 9 is no orientation.
    np.testing.assert_array_equal(example["image"][:, :, 0], expected)


@pytest.mark.parametrize("text", ["", "12", "8,7", "7,7", "-1,5", "0,65536", "1,2,3", "auto"])
def test_wrong_choices(tmp_path, capsys, text):
    raw.write(tmp_path / "frames", {"a.png": raw.png(raw.rgb(0))})
    assert prepare(tmp_path, f"--intensity={text}", labels=False) == 2
    assert f"intensity is {text!r}: expected MIN,MAX" in error_of(capsys)


@given(
    hnp.arrays(np.uint16, (2, 3), elements=st.integers(0, 65_535) | st.sampled_from([0, 255, 256])),
    st.none() | st.sampled_from(["full", "range"])
    | st.tuples(st.integers(0, 65_534), st.integers(1, 65_535)).map(
        lambda pair: f"{min(pair)},{max(pair) + (pair[0] == pair[1])}"),
)  # fmt: skip
def test_order_is_kept_and_different_values_stay_different_without_a_choice(values, text):
    if text and "," in text and refusal(lambda: intensity.parse_intensity(text)):
        return
    try:
        found = intensity.reduce(values, intensity.parse_intensity(text))
    except intensity.LossError:
        assert text is None
        return
    order = np.argsort(values, axis=None, kind="stable")
    assert (np.diff(found.ravel()[order].astype(int)) >= 0).all()
    if text is None:
        assert len(np.unique(found)) == len(np.unique(values))


# Videos ------------------------------------------------------------------------------------------


def write_video(path, num_frames, size=(32, 48)):
    """Motion JPEG: every frame is whole. Returns the frames as a sequential reader gives them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, size[::-1])
    assert writer.isOpened()
    for number in range(num_frames):
        writer.write(cv2.resize(raw.rgb(number, 4, 6), size[::-1])[:, :, ::-1])
    writer.release()
    return read_video(path)


def read_video(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        there, pixels = capture.read()
        if not there:
            return frames
        frames.append(pixels[:, :, ::-1])


def prepare_video(root, images, *more):
    return COMMAND.main([
        "image_folder", "--workers=1", "--name=mine", f"--images={images}",
        f"--data_dir={root / 'datasets'}", *more,
    ])  # fmt: skip


@pytest.mark.parametrize("every", [1, 3])
def test_every_nth_frame_of_a_video(tmp_path, capsys, every):
    frames = write_video(tmp_path / "raw/drive.avi", 10)
    raw.write(tmp_path / "raw", {"unread.png": b""})
    video = tmp_path / "raw/drive.avi"
    assert prepare_video(tmp_path, video, f"--every={every}", "--check") == 0
    assert "unread.png" not in capsys.readouterr().out
    assert prepare_video(tmp_path, video, f"--every={every}") == 0
    examples = examples_of(tmp_path, labelled=False)
    numbers = range(every, 11, every)
    assert list(examples) == [f"drive/{number:06d}" for number in numbers]
    for number in numbers:
        found = examples[f"drive/{number:06d}"]["image"]
        np.testing.assert_array_equal(found, frames[number - 1])


def test_a_folder_of_videos_and_images(tmp_path, capsys):
    frames = write_video(tmp_path / "raw/b/drive.avi", 4)
    raw.write(tmp_path / "raw", {"a.png": raw.png(raw.rgb(0)), "z.png": raw.png(raw.rgb(1))})
    assert prepare_video(tmp_path, tmp_path / "raw", "--check") == 0
    assert "its videos are not read: --every=N takes" in capsys.readouterr().out
    assert prepare_video(tmp_path, tmp_path / "raw", "--every=2", "--size=16,24") == 0
    examples = raw.read(tmp_path / "datasets", "image_folder/mine_16x24", "train", labelled=False)
    assert list(examples) == ["a", "b/drive/000002", "b/drive/000004", "z"]
    assert len(frames) == 4


def test_frames_are_the_same_in_any_order(tmp_path):
    """As worker processes ask for them; a jump into a video could end at another frame."""
    expected = write_video(tmp_path / "drive.avi", 12)
    frames, faults = videos.find_frames(RawFiles(tmp_path), every=1)
    assert not faults
    assert [str(frame) for frame in frames.values()][1] == "drive.avi, frame 2"
    for number in (3, 4, 12, 1, 1, 7, 2):
        data = frames[f"drive/{number:06d}"].read()
        np.testing.assert_array_equal(decode_rgb(data), expected[number - 1])
    write_video(tmp_path / "drive.avi", 3)
    videos.close()
    with pytest.raises(OSError, match="ends after 3 frames"):
        frames["drive/000007"].read()


def test_a_video_that_ends_early_is_told(tmp_path, capsys):
    write_video(tmp_path / "raw/drive.avi", 20)
    data = (tmp_path / "raw/drive.avi").read_bytes()
    (tmp_path / "raw/drive.avi").write_bytes(data[: len(data) * 2 // 3])
    video = tmp_path / "raw/drive.avi"
    there = len(read_video(video))
    assert 5 < there < 20
    assert prepare_video(tmp_path, video, "--every=5") == 2
    message = error_of(capsys)
    assert "videos that end early: 1 (drive.avi): take whole videos" in message
    assert prepare_video(tmp_path, video, "--every=5", "--check") == 1
    words = f"drive.avi ends after {there} of the 20 frames that its header names"
    assert words in capsys.readouterr().out
    assert prepare_video(tmp_path, video, "--every=5", "--skip_bad") == 0
    assert words in capsys.readouterr().out
    assert len(examples_of(tmp_path, labelled=False)) == there // 5


@pytest.mark.parametrize(
    ("files", "more", "words"),
    [
        ({"a.mp4": b"no video"}, ["--every=2"], "files that cannot be decoded: 1 (a.mp4)"),
        ({"drive.avi": None}, ["--every=9"], "videos without a frame to take: 1 (drive.avi)"),
        ({"drive.avi": None}, ["--every=0"], "every"),
        ({"a.png": b""}, ["--every=2", "--images={root}"], "every is 2, but {root} has no video"),
        ({"drive.avi": None}, ["--every=2", "--labels=."], "frames of a video have no labels"),
        ({"drive.avi": None}, [], "say with --every=N that every Nth frame is to be taken"),
    ],
)
def test_videos_that_cannot_be_taken(tmp_path, capsys, files, more, words):
    for name, data in files.items():
        if data is None:
            write_video(tmp_path / "raw" / name, 3)
        else:
            raw.write(tmp_path / "raw", {name: data})
    root = str(tmp_path / "raw")
    more = [flag.format(root=root) for flag in more]
    assert prepare_video(tmp_path, tmp_path / "raw" / name, *more) == 2
    assert words.format(root=root) in capsys.readouterr().err
    assert not (tmp_path / "datasets").exists()


def test_frames_of_the_same_names(tmp_path, capsys):
    write_video(tmp_path / "raw/drive.avi", 3)
    write_video(tmp_path / "raw/drive.mov", 3)
    assert prepare_video(tmp_path, tmp_path / "raw", "--every=1") == 2
    assert "would have frames of the same names, drive/000001" in error_of(capsys)
    (tmp_path / "raw/drive.mov").unlink()
    raw.write(tmp_path / "raw", {"drive/000002.png": raw.png(raw.rgb(0))})
    assert prepare_video(tmp_path, tmp_path / "raw", "--every=1") == 2
    assert "would have the same name, drive/000002" in error_of(capsys)
    raw.write_zip(tmp_path / "zips/more.zip", {"a.mp4": b""})
    assert prepare_video(tmp_path, tmp_path / "zips", "--every=1") == 2
    assert "files that cannot be read: 1 (more.zip:a.mp4)" in error_of(capsys)
