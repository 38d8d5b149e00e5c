"""What is wrong with raw files: stopping at it, leaving it out, and listing it with --check."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from alp_jax.data import opening
from data_prep.bdd100k import COMMAND as BDD100K
from data_prep.camvid import COMMAND as CAMVID
from data_prep.cityscapes import COMMAND as CITYSCAPES
from data_prep.gta5 import COMMAND as GTA5
from data_prep.idd_lite import COMMAND as IDD_LITE
from data_prep.raw import check as check_module
from data_prep.synthia_rand_cityscapes import COMMAND as SYNTHIA
from tests.data_prep import raw_files as raw


def run(command, root, *arguments):
    arguments = (f"--raw_dir={root / 'raw'}", f"--data_dir={root / 'datasets'}", *arguments)
    return command.main(["command", "--workers=1", *arguments])


def error_of(capsys):
    error = capsys.readouterr().err
    lines = [line for line in error.strip().splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert error.strip().splitlines()[-1] == lines[0]
    assert "Traceback" not in error
    return lines[0]


def unknown_label():
    indices = raw.values(1, raw.ALL_IDS)
    indices[3, 4:7] = 77
    return raw.palette_png(indices)


def damaged_png():
    data = bytearray(raw.png(raw.rgb(1)))
    data[len(data) // 2] ^= 0x10
    return bytes(data)


GTA5_FAULTS = {
    "truncated image": ("images/00002.png", raw.png(raw.rgb(2))[:-2000], "truncated"),
    "damaged image": ("images/00002.png", damaged_png(), "broken data stream"),
    "no image at all": ("images/00002.png", b"<html>404</html>", "cannot identify image file"),
    "empty file": ("images/00002.png", b"", "cannot identify image file"),
    "truncated label": ("labels/00002.png", unknown_label()[:-300], "truncated"),
    "unknown label value": ("labels/00002.png", unknown_label(), "holds the unknown value 77"),
    "colour label": ("labels/00002.png", raw.png(raw.rgb(2)), "grey PNG, but 8-bit colour"),
    "JPEG label": ("labels/00002.png", raw.jpeg(raw.rgb(2)), "grey PNG, but a JPEG file"),
    "1-bit label": (
        "labels/00002.png",
        raw.file_bytes(Image.fromarray(raw.rgb(2)[:, :, 0] > 99)),
        "is not an 8-bit palette or grey PNG, but 1-bit grey",
    ),
    "16-bit label": (
        "labels/00002.png",
        raw.file_bytes(Image.fromarray(raw.values(2, raw.ALL_IDS).astype(np.uint16))),
        "grey PNG, but 16-bit grey",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", GTA5_FAULTS)
def test_a_bad_file_stops_preparation_in_one_sentence(tmp_path, capsys, fault):
    path, data, reason = GTA5_FAULTS[fault]
    raw.write(tmp_path / "raw", raw.gta5_files(range(1, 4)) | {path: data})
    assert run(GTA5, tmp_path) == 2
    error = error_of(capsys)
    assert error.startswith(f"error: {path} ")
    assert reason in error
    assert "--check" in error
    assert "--skip_bad" in error
    assert not list((tmp_path / "datasets").rglob("1.0.0"))
    assert not list((tmp_path / "datasets").rglob("*array_record*"))


def test_skip_bad_leaves_pairs_out_and_lists_them(tmp_path, capsys):
    files = raw.gta5_files(range(1, 8))
    for number, fault in ((2, "truncated image"), (4, "unknown label value")):
        path, data, _ = GTA5_FAULTS[fault]
        files[path.replace("00002", f"{number:05d}")] = data
    del files["labels/00006.png"]
    del files["images/00007.png"]
    raw.write(tmp_path / "raw", files)
    assert run(GTA5, tmp_path, "--skip_bad") == 0
    examples = raw.read(tmp_path / "datasets", "gta5/all", "train")
    assert list(examples) == ["00001", "00003", "00005"]
    output = capsys.readouterr().out
    assert "3 images in train" in output
    assert "4 bad files, left out with their partners" in output
    for line in (
        "images/00002.png cannot be decoded (image file is truncated)",
        "labels/00004.png holds the unknown value 77",
        "images/00006.png has no label", "labels/00007.png has no image",
    ):  # fmt: skip
        assert line in output


def test_missing_partners_are_found_before_anything_is_read(tmp_path, capsys):
    files = raw.gta5_files(range(1, 10))
    for number in range(1, 8):
        del files[f"labels/{number:05d}.png"]
    del files["images/00009.png"]
    files["images/00008.png"] = b""  # would be the first error, if it was read
    raw.write(tmp_path / "raw", files)
    assert run(GTA5, tmp_path) == 2
    error = error_of(capsys)
    assert "There are images without label: 7 (images/00001.png, images/00002.png, " in error
    assert "and 2 more)" in error
    assert "labels without image: 1 (labels/00009.png)" in error
    assert not list((tmp_path / "datasets").rglob("gta5"))


def test_8_bit_synthia_labels_are_refused(tmp_path, capsys):
    files = raw.synthia_files([0, 1])
    files["RAND_CITYSCAPES/GT/LABELS/0000001.png"] = raw.png(raw.rgb(0))
    raw.write(tmp_path / "raw", files)
    assert run(SYNTHIA, tmp_path) == 2
    error = error_of(capsys)
    assert "GT/LABELS/0000001.png is not a 16-bit PNG with 3 channels" in error
    assert "pre-parsed labels cannot be used" in error


def test_unknown_synthia_class_beyond_8_bits(tmp_path, capsys):
    classes = raw.values(0, np.arange(23))
    classes[0, 0] = 263  # 7 in its low byte
    files = raw.synthia_files([0])
    files["RAND_CITYSCAPES/GT/LABELS/0000000.png"] = raw.synthia_png(classes)
    raw.write(tmp_path / "raw", files)
    assert run(SYNTHIA, tmp_path) == 2
    assert "holds the unknown value 263" in error_of(capsys)


def test_cityscapes_ids_in_a_bdd_label_are_unknown(tmp_path, capsys):
    files = {
        "images/10k/train/a.jpg": raw.jpeg(raw.rgb(0)),
        "labels/sem_seg/masks/train/a.png": raw.png(raw.values(0, raw.ALL_IDS)),
    }
    raw.write(tmp_path / "raw", files)
    assert run(BDD100K, tmp_path, "--configs=labelled") == 2
    assert "holds unknown values 19, 20, 21, 22, 23, ..." in error_of(capsys)


def test_a_damaged_zip_file_is_named(tmp_path, capsys):
    raw.write_zip(tmp_path / "raw/01_images.zip", raw.gta5_files([1]))
    data = (tmp_path / "raw/01_images.zip").read_bytes()
    (tmp_path / "raw/02_images.zip").write_bytes(data[: len(data) // 2])
    for arguments in ([], ["--check"]):
        assert run(GTA5, tmp_path, *arguments) == 2
        error = error_of(capsys)
        assert "02_images.zip" in error
        assert "01_images.zip" not in error
        assert "download it again" in error


def test_a_damaged_member_of_a_zip_file_is_named(tmp_path, capsys):
    raw.write_zip(tmp_path / "raw/01.zip", raw.gta5_files([1, 2]))
    data = bytearray((tmp_path / "raw/01.zip").read_bytes())
    data[data.index(b"images/00002.png") + 500] ^= 0xFF
    (tmp_path / "raw/01.zip").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "raw/01.zip") as archive:
        assert archive.testzip() == "images/00002.png"
    assert run(GTA5, tmp_path) == 2
    assert "01.zip:images/00002.png cannot be read (Bad CRC-32" in error_of(capsys)


@pytest.mark.parametrize("command", [GTA5, SYNTHIA, CITYSCAPES, BDD100K, CAMVID, IDD_LITE])
@pytest.mark.parametrize("flag", [[], ["--check"]])
def test_a_folder_of_something_else(tmp_path, capsys, command, flag):
    raw.write(tmp_path / "raw", {"notes.txt": b"", "__MACOSX/images/._00001.png": b""})
    assert run(command, tmp_path, *flag) == 2
    error = error_of(capsys)
    assert "but found 1 other file (notes.txt); hidden: 1 (__MACOSX)." in error
    assert any(part in error for part in ("NNNNN", "CITY", "ID.jpg", "NAME.png", "DRIVE"))
    assert not (tmp_path / "datasets").exists()


def test_an_empty_folder_and_no_folder(tmp_path, capsys):
    assert run(GTA5, tmp_path) == 2
    assert "does not exist: give the folder of the files, or of the zip files" in error_of(capsys)
    (tmp_path / "raw").mkdir()
    assert run(GTA5, tmp_path) == 2
    assert "but found nothing" in error_of(capsys)


def planted(root):
    """A GTA5 folder with one of each fault."""
    files = raw.gta5_files(range(1, 13))
    for number, fault in enumerate(GTA5_FAULTS, start=1):
        path, data, _ = GTA5_FAULTS[fault]
        files[path.replace("00002", f"{number:05d}")] = data
    del files["labels/00011.png"]
    del files["images/00012.png"]
    files |= {"README.txt": b"", "__MACOSX/images/._00001.png": b"", "images/.DS_Store": b""}
    files |= {f"images/{n:05d}.png": raw.png(raw.rgb(n)) for n in (20, 21)}
    files["labels/00020.png"] = raw.palette_png(raw.values(20, raw.ALL_IDS, 30, 40))
    files["labels/00021.png"] = raw.palette_png(raw.values(21, np.array([77, 78])))
    return raw.write(root / "raw", files)


def test_check_reports_every_fault_by_name_and_writes_nothing(tmp_path, capsys):
    planted(tmp_path)
    before = raw.listing(tmp_path)
    assert run(GTA5, tmp_path, "--check") == 1
    output = capsys.readouterr().out
    for number, fault in enumerate(GTA5_FAULTS, start=1):
        path, _, reason = GTA5_FAULTS[fault]
        path = path.replace("00002", f"{number:05d}")
        assert any(path in line and reason in line for line in output.splitlines()), path
    for line in (
        "images/00011.png has no label", "labels/00012.png has no image",
        "images/00020.png is 38x70 (height x width), its label 30x40",
        "labels/00021.png holds unknown values 77, 78",
        "in all: 77 in 2 files, 1,333 pixels", "in all: 78 in 1 file, 1,330 pixels",
        "Other files, which are not read: 1 (README.txt).",
        "Passed over, hidden: 2 (__MACOSX, images/.DS_Store).",
        "all: train has 12 images, but 24,966 are published (not there: 00011, 00012,",
        "Something is wrong with 13 files",
    ):  # fmt: skip
        assert line in output, line
    assert raw.listing(tmp_path) == before


def test_check_of_a_good_folder(tmp_path, capsys):
    files = raw.cityscapes_files("train", range(2), "leftImg8bit")
    files |= raw.cityscapes_files("train", range(2), "gtFine")
    raw.write(tmp_path / "raw", files | raw.cityscapes_files("test", [5], "leftImg8bit"))
    assert run(CITYSCAPES, tmp_path, "--check") == 0
    captured = capsys.readouterr()
    assert "Nothing is wrong" in captured.out
    assert "labelled: validation is left out" in captured.out
    assert "3/3" in captured.err  # an image that two configurations have is read once


def test_check_shortens_long_lists(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(check_module, "_LISTED", 2)
    files = raw.gta5_files([1]) | {f"images/{n:05d}.png": b"" for n in range(2, 9)}
    raw.write(tmp_path / "raw", files)
    assert run(GTA5, tmp_path, "--check") == 1
    output = capsys.readouterr().out
    assert "Images without label: 7" in output
    assert "and 5 more" in output
    assert "00004.png has no label" not in output


def test_a_split_of_bad_files_only(tmp_path, capsys):
    raw.write(tmp_path / "raw", raw.gta5_files([1]) | {"images/00001.png": b""})
    assert run(GTA5, tmp_path, "--skip_bad") == 2
    assert "No image of train can be used" in error_of(capsys)


def test_an_image_too_large_to_be_safe(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(opening, "MAX_PIXELS", 2000)
    raw.write(tmp_path / "raw", raw.gta5_files([1]))
    assert run(GTA5, tmp_path) == 2
    assert (
        "images/00001.png is 38x70 (height x width), 0.00266 megapixels, more than the 0.002 that "
        "are read: give --max_megapixels=1 if that is right"
    ) in error_of(capsys)
    assert run(GTA5, tmp_path, "--max_megapixels=0.00266") == 0


def test_images_too_large_for_the_disk(tmp_path, capsys, monkeypatch):
    usage = type("Usage", (), {"free": 10_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    raw.write(tmp_path / "raw", raw.gta5_files([1, 2]))
    assert run(GTA5, tmp_path) == 2
    assert "free some space, or store smaller images with --size" in error_of(capsys)
    assert run(GTA5, tmp_path, "--size=20,30") == 0


def test_images_of_other_modes_become_rgb(tmp_path):
    """In a published dataset as well: a copy with an alpha channel would break training."""
    pixels = raw.rgb(1)
    files = raw.gta5_files([1])
    rgba = np.dstack([pixels, np.full(pixels.shape[:2], 9, np.uint8)])
    files["images/00001.png"] = raw.file_bytes(Image.fromarray(rgba))
    raw.write(tmp_path / "raw", files)
    assert run(GTA5, tmp_path) == 0
    (example,) = raw.read(tmp_path / "datasets", "gta5/all", "train").values()
    np.testing.assert_array_equal(example["image"], pixels)
    assert Image.open(io.BytesIO(files["images/00001.png"])).mode == "RGBA"
