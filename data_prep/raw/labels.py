"""Converts label files of raw datasets to stored values; an unknown value is an error."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import cv2
import numpy as np

from data_prep.raw.images import PNG_GREY, PNG_PALETTE, PNG_RGB, describe_png, open_image
from data_prep.raw.layout import REPLACE, FaultError
from data_prep.raw.tables import RawTable

T = TypeVar("T")

WRONG_FORMAT = "labels of a wrong format"
_COLOUR_TYPES = {PNG_GREY: "grey", PNG_RGB: "colour", 4: "grey with alpha", 6: "colour with alpha"}


def read_indices(data: bytes, table: RawTable) -> np.ndarray:
    """Reads an 8-bit palette or grey PNG with the values of a table.

    Returns:
        [H, W] uint8 stored values.
    Raises:
        FaultError: if the file has another format, or holds a value that is not in the table.
    """
    image = open_image(data)
    png = describe_png(data)
    if png != (8, PNG_GREY) and (png is None or png[1] != PNG_PALETTE):
        what = f"{png[0]}-bit {_COLOUR_TYPES[png[1]]}" if png else f"a {image.format} file"
        raise FaultError(WRONG_FORMAT, f"is not an 8-bit palette or grey PNG, but {what}")
    return _to_stored(np.asarray(image), table)


def read_first_of_16_bit(data: bytes, table: RawTable) -> np.ndarray:
    """Reads a 16-bit PNG with 3 channels, the class in the first and the instance in the second.

    Returns:
        [H, W] uint8 stored values.
    Raises:
        FaultError: if the file has another format, or holds a class that is not in the table.
    """
    open_image(data)  # finds damage; Pillow's pixels are not used, as 8 bits leave all 0
    if describe_png(data) != (16, PNG_RGB):
        raise FaultError(
            WRONG_FORMAT,
            "is not a 16-bit PNG with 3 channels, as those in GT/LABELS are: colour images and "
            "pre-parsed labels cannot be used",
        )
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert values is not None
    assert values.dtype == np.uint16
    return _to_stored(values[:, :, 2], table)  # OpenCV: blue first


def _to_stored(values: np.ndarray, table: RawTable) -> np.ndarray:
    pixels = np.bincount(values.ravel(), minlength=256)
    there = np.flatnonzero(pixels).tolist()
    unknown = {v: int(pixels[v]) for v in there if v > 255 or not table.is_known[v]}
    check_values(unknown, str)
    return table.to_stored[values]


def check_values(
    unknown: Mapping[T, int], describe: Callable[[T], str], remedy: str = REPLACE
) -> None:
    """Refuses unknown label values.

    Args:
        unknown: value -> number of pixels.
        describe: formats a value.
        remedy: what to do about them.
    Raises:
        FaultError: if there is an unknown value.
    """
    if unknown:
        values = {describe(value): count for value, count in unknown.items()}
        listed = ", ".join(list(values)[:5]) + (", ..." if len(values) > 5 else "")
        raise FaultError(
            "labels with unknown values",
            f"holds {'the unknown value' if len(values) == 1 else 'unknown values'} {listed}",
            values,
            remedy=remedy,
        )
