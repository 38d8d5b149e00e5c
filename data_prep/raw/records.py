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
from data_prep.raw.geometry import OTHER_SIZE, fit_label
from data_prep.raw.images import OUTSIDE, describe_outside, to_rgb_file
from data_prep.raw.layout import Decoding, Fault, FaultError, LabelReader, MapReader, Pair


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of the conversion of a pair to a record.

    Attributes:
        read_label: reads a label file.
        decoding: how images are decoded, and how labels must fit.
        image_size, label_size: (height, width) to resize to; None keeps the size.
    """

    read_label: LabelReader | None
    decoding: Decoding
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
        remarks: heading and sentence of each remark about the pair.
        keys: keys of a user's label map that the label holds.
        pixels: [256] pixels of each value of the label; None for a pair without label.
        digest: of the content.
        file_digests: of the files of image and label, as they were read.
    """

    name: str
    image: bytes
    label: bytes | None
    faults: tuple[Fault, ...] = ()
    remarks: tuple[tuple[str, str], ...] = ()
    keys: frozenset[str] = frozenset()
    pixels: np.ndarray | None = dataclasses.field(default=None, compare=False)
    digest: str = ""
    file_digests: tuple[str, ...] = ()


def make_record(recipe: Recipe, pair: Pair) -> Record:
    """Converts a pair to a record; faults of the files are listed in it, and never raised."""
    faults: list[Fault] = []
    image, image_size = b"", None
    label, pixels, keys = None, None, frozenset[str]()
    remarks: list[tuple[str, str]] = []
    data = label_data = b""
    try:
        _check_name(pair.name)
        data = _read(pair.image)
        image, image_size = to_rgb_file(data, recipe.image_size, recipe.decoding)
        outside = describe_outside(data, recipe.decoding)
        remarks += [(OUTSIDE, f"{pair.image} {outside}")] if outside else []
    except FaultError as error:
        faults.append(error.of(pair.image))
    if pair.label is not None:
        try:
            label_data = _read(pair.label)
            ids, keys = _read_label(recipe, label_data)
            if image_size is not None:
                ids, heading = fit_label(ids, label_data, data, image_size, recipe.decoding)
                if heading:
                    remarks.append((heading, _remark(heading, pair, image_size, ids)))
            label, pixels = _encode_label(ids, recipe.label_size)
        except FaultError as error:
            faults.append(error.of(pair.label))
    of_files = (digest([data]), digest([label_data]) if pair.label else "")
    of_image = of_files[0] if image is data else digest([image])
    content = digest([os.fsencode(pair.name), of_image.encode(), label or b""])
    return Record(
        pair.name, image, label, tuple(faults), tuple(remarks), keys, pixels, content, of_files
    )


def _read_label(recipe: Recipe, data: bytes) -> tuple[np.ndarray, frozenset[str]]:
    assert recipe.read_label is not None
    if isinstance(recipe.read_label, MapReader):
        return recipe.read_label.read_with_keys(data)
    return recipe.read_label(data), frozenset()


def _remark(heading: str, pair: Pair, image_size: tuple[int, int], ids: np.ndarray) -> str:
    if heading != OTHER_SIZE:
        return str(pair.label)
    image, label = ("x".join(map(str, size)) for size in (image_size, ids.shape))
    return f"{pair.image} is {image} (height x width), its label {label}"


def check_pair(recipe: Recipe, pair: Pair) -> Record:
    """Converts a pair only to find its faults, and drops image and label."""
    record = make_record(recipe, pair)
    return dataclasses.replace(record, image=b"", label=None)


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise FaultError(
            "names that no record can hold", "has a name that is not UTF-8: rename it"
        ) from error


def _encode_label(ids: np.ndarray, size: tuple[int, int] | None) -> tuple[bytes, np.ndarray]:
    """Returns (PNG file, [256] pixels of each value) of a label, resized."""
    resized = ids if size is None else resize(ids, size, Image.Resampling.NEAREST)
    return encode_png(resized), count_values(resized)


def _read(file: RawFile) -> bytes:
    try:
        return file.read()
    except Exception as error:  # OSError, or the many types of zipfile and zlib for damaged data
        raise FaultError("files that cannot be read", f"cannot be read ({error})") from error
