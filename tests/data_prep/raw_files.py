"""Raw datasets in their published formats, small; and what is read back once prepared."""

import io
import pathlib
import zipfile
import zlib

import cv2
import numpy as np
from PIL import Image

from alp_jax.data.labels import CITYSCAPES_TABLE, load_label_set
from alp_jax.data.sources import open_source

HEIGHT, WIDTH = 38, 70
ALL_IDS = np.arange(35)
BDD_VALUES = np.array([*range(19), 255])
# SYNTHIA's 23 classes, lane marking ignored, as Cityscapes ids: written out, not from the table.
SYNTHIA_TO_IDS = np.array(
    [0, 23, 11, 7, 8, 13, 21, 17, 26, 20, 24, 33, 32, 0, 0, 19, 22, 25, 27, 28, 31, 12, 0]
)


def rgb(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def values(seed: int, choices: np.ndarray, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """[H, W] of the choices, each at least once if there is room."""
    drawn = np.random.default_rng(seed).permutation(np.resize(choices, height * width))
    return drawn.reshape(height, width)


def file_bytes(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: np.ndarray) -> bytes:
    return file_bytes(Image.fromarray(pixels.astype(np.uint8)))


def jpeg(pixels: np.ndarray) -> bytes:
    return file_bytes(Image.fromarray(pixels), "JPEG", quality=90)


def palette_png(indices: np.ndarray) -> bytes:
    """As GTA5's labels: the palette has colours, the index is the class."""
    image = Image.fromarray(indices.astype(np.uint8), "L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    return file_bytes(image)


def synthia_png(classes: np.ndarray) -> bytes:
    """As SYNTHIA's labels: 16 bits, class in the first channel, instance in the second."""
    instances = np.arange(classes.size).reshape(classes.shape)  # beyond 8 bits
    channels = np.stack([np.zeros_like(classes), instances, classes], axis=-1)  # blue first
    return cv2.imencode(".png", channels.astype(np.uint16))[1].tobytes()


def gta5_files(numbers, height: int = HEIGHT, width: int = WIDTH) -> dict[str, bytes]:
    files = {f"images/{n:05d}.png": png(rgb(n, height, width)) for n in numbers}
    return files | {
        f"labels/{n:05d}.png": palette_png(values(n, ALL_IDS, height, width)) for n in numbers
    }


def synthia_files(numbers) -> dict[str, bytes]:
    files = {f"RAND_CITYSCAPES/RGB/{n:07d}.png": png(rgb(n)) for n in numbers}
    return files | {
        f"RAND_CITYSCAPES/GT/LABELS/{n:07d}.png": synthia_png(values(n, np.arange(23)))
        for n in numbers
    }


def cityscapes_name(number: int) -> str:
    return f"aachen_{number:06d}_000019"


def cityscapes_files(split: str, numbers, kind: str) -> dict[str, bytes]:
    """Of kind leftImg8bit or gtFine; the latter comes with files that nothing reads."""
    folder = f"{kind}/{split}/aachen"
    if kind == "leftImg8bit":
        return {f"{folder}/{cityscapes_name(n)}_{kind}.png": png(rgb(n)) for n in numbers}
    files = {}
    for n in numbers:
        ids = values(n, np.append(ALL_IDS, 255))
        files[f"{folder}/{cityscapes_name(n)}_gtFine_labelIds.png"] = png(ids)
        files[f"{folder}/{cityscapes_name(n)}_gtFine_instanceIds.png"] = png(ids)
        files[f"{folder}/{cityscapes_name(n)}_gtFine_polygons.json"] = b"{}"
    return files


CAMVID_VALUES = np.arange(12)
IDD_LITE_VALUES = np.array([*range(7), 255])


def camvid_files(lists: dict[str, list[str]], kind: str = "png") -> dict[str, bytes]:
    """As SegNet published it: images, labels, and the list of each split."""
    files = {}
    for split, names in lists.items():
        lines = [
            f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png;\r\n"
            for name in names
        ]
        files[f"CamVid/{split}.txt"] = "".join(lines).encode()
        for name in names:
            image = png(rgb(seed_of(name))) if kind == "png" else jpeg(rgb(seed_of(name)))
            files[f"CamVid/{split}/{name}.{kind}"] = image
            files[f"CamVid/{split}annot/{name}.png"] = png(values(seed_of(name), CAMVID_VALUES))
    return files


def idd_lite_files(split: str, names: list[str], *, labels: bool = True) -> dict[str, bytes]:
    """Names are DRIVE/ID."""
    files = {f"leftImg8bit/{split}/{n}_image.jpg": jpeg(rgb(seed_of(n))) for n in names}
    for name in names if labels else ():
        label = png(values(seed_of(name), IDD_LITE_VALUES))
        files[f"gtFine/{split}/{name}_label.png"] = label
    return files


def seed_of(name: str) -> int:
    return zlib.crc32(name.encode())


def write(root: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def write_zip(path: pathlib.Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("folder")  # zip files hold folders, too
        for name, data in files.items():
            archive.writestr(name, data)


def read(data_dir: pathlib.Path, name: str, split: str, *, labelled: bool = True) -> dict:
    """Examples by name, through what training reads with."""
    source = open_source(
        str(data_dir), name, split, label_set=load_label_set("cityscapes_19") if labelled else None
    )
    examples = [source[index] for index in range(len(source))]
    names = [example["name"] for example in examples]
    assert names == sorted(names)
    return dict(zip(names, examples, strict=True))


def train_ids(label_ids: np.ndarray) -> np.ndarray:
    return load_label_set("cityscapes_19").map_table(CITYSCAPES_TABLE)[label_ids]


def listing(root: pathlib.Path) -> list:
    """Everything below a folder, with sizes and times."""
    return sorted(
        (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*")
    )
