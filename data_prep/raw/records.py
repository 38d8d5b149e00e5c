"""Converts one pair of raw files to a record, or lists its faults; runs in worker processes."""

import dataclasses
import os

import numpy as np
from PIL import Image

from alp_jax.data.digests import digest
from alp_jax.data.pipeline import resize
from data_prep.common.png import encode_png
from data_prep.common.tally import count_values
from data_prep.raw.files import RawFile
from data_prep.raw.images import to_rgb_file
from data_prep.raw.layout import Fault, FaultError, LabelReader, Pair


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of the conversion of a pair to a record.

    Attributes:
        read_label: reads a label file.
        upright: whether to rotate images by their EXIF orientation.
        image_size, label_size: (height, width) to resize to; None keeps the size.
    """

    read_label: LabelReader | None
    upright: bool
    image_size: tuple[int, int] | None = None
    label_size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Record:
    """Content of a record; a file with a fault has no content.

    Attributes:
        name: name of the pair.
        image: PNG or JPEG file, 8-bit RGB.
        label: PNG file, 8-bit grey, with stored values; None for a pair without label.
        faults: faults of the files.
        mismatch: a sentence if image and label differ in size, which is allowed; else "".
        pixels: [256] pixels of each value of the label; None for a pair without label.
        digest: of the content.
        file_digests: of the files of image and label, as they were read.
    """

    name: str
    image: bytes
    label: bytes | None
    faults: tuple[Fault, ...] = ()
    mismatch: str = ""
    pixels: np.ndarray | None = dataclasses.field(default=None, compare=False)
    digest: str = ""
    file_digests: tuple[str, ...] = ()


def make_record(recipe: Recipe, pair: Pair) -> Record:
    """Converts a pair to a record; faults of the files are listed in it, and never raised."""
    faults: list[Fault] = []
    image, image_size = b"", None
    label, label_size, pixels = None, None, None
    data = label_data = b""
    try:
        data = _read(pair.image)
        image, image_size = to_rgb_file(data, recipe.image_size, upright=recipe.upright)
    except FaultError as error:
        faults.append(Fault(error.kind, str(pair.image), error.reason, error.values))
    if pair.label is not None:
        assert recipe.read_label is not None
        try:
            label_data = _read(pair.label)
            ids = recipe.read_label(label_data)
            (label, pixels), label_size = _encode_label(ids, recipe.label_size), ids.shape
        except FaultError as error:
            faults.append(Fault(error.kind, str(pair.label), error.reason, error.values))
    mismatch = ""
    if image_size and label_size and image_size != label_size:
        sizes = ["x".join(map(str, size)) for size in (image_size, label_size)]
        mismatch = f"{pair.image} is {sizes[0]} (height x width), its label {sizes[1]}"
    of_files = (digest([data]), digest([label_data]) if pair.label else "")
    of_image = of_files[0] if image is data else digest([image])
    content = digest([os.fsencode(pair.name), of_image.encode(), label or b""])
    return Record(pair.name, image, label, tuple(faults), mismatch, pixels, content, of_files)


def check_pair(recipe: Recipe, pair: Pair) -> Record:
    """Converts a pair only to find its faults, and drops image and label."""
    record = make_record(recipe, pair)
    return dataclasses.replace(record, image=b"", label=None)


def _encode_label(ids: np.ndarray, size: tuple[int, int] | None) -> tuple[bytes, np.ndarray]:
    """Returns (PNG file, [256] pixels of each value) of a label, resized."""
    resized = ids if size is None else resize(ids, size, Image.Resampling.NEAREST)
    return encode_png(resized), count_values(resized)


def _read(file: RawFile) -> bytes:
    try:
        return file.read()
    except Exception as error:  # OSError, or the many types of zipfile and zlib for damaged data
        raise FaultError("files that cannot be read", f"cannot be read ({error})") from error
