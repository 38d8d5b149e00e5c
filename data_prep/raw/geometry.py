"""Makes image and label the same geometrically, or refuses the pair.

Synopsis:

  ids, remark = fit_label(ids, label_data, image_data, image_size, decoding)
"""

import io

import numpy as np

from alp_jax.data import orientation
from alp_jax.data.image_files import ImageError
from alp_jax.data.opening import open_header
from alp_jax.data.orientation import UPRIGHT
from data_prep.raw.layout import Decoding, FaultError

OTHER_SIZE = "Labels that differ in size from their images, which is allowed"
TURNED = "Labels turned by the EXIF orientation, as their images are"
_CHOICE = (
    "say with --label_orientation=upright that labels fit the images as they are shown, or with "
    "--label_orientation=stored that they fit the pixels in the files"
)
Size = tuple[int, int]


def fit_label(
    ids: np.ndarray, label_data: bytes, image_data: bytes, image_size: Size, decoding: Decoding
) -> tuple[np.ndarray, str]:
    """Turns a label as its image was turned, and compares their sizes.

    Args:
        ids: the label, [H, W].
        label_data, image_data: content of the files.
        image_size: (height, width) of the decoded image, which was turned if `decoding` says so.
        decoding: what is known of the labels.
    Returns:
        (label, the heading of a remark about the pair, or "").
    Raises:
        FaultError: if they do not fit, or it cannot be told whether they do.
    """
    turned = ids
    if decoding.upright:
        turned = _turn(ids, label_data, _read_tag(image_data), image_size, decoding)
    _check_size(turned.shape, image_size, decoding)
    if turned is not ids and decoding.label_orientation is None:
        return turned, TURNED
    return turned, OTHER_SIZE if turned.shape != image_size else ""


def _turn(
    ids: np.ndarray, label_data: bytes, image_tag: int, image_size: Size, decoding: Decoding
) -> np.ndarray:
    label_tag = _read_tag(label_data)
    if label_tag != UPRIGHT:
        if label_tag != image_tag:
            raise FaultError(
                "labels with another orientation than their images",
                f"has the EXIF orientation {label_tag}, but its image {image_tag}",
                remedy="turn the pixels of both upright and save them without orientation",
            )
        done = orientation.is_turned_when_decoded(label_data)
        return ids if done else orientation.turn(ids, label_tag)
    if image_tag == UPRIGHT:
        return ids
    fits = decoding.label_orientation or _find_view(ids.shape, image_tag, image_size)
    return ids if fits == "upright" else orientation.turn(ids, image_tag)


def _read_tag(data: bytes) -> int:
    """Returns the EXIF orientation in the header of a file; upright for files of shapes."""
    try:
        return orientation.find_tag(open_header(io.BytesIO(data)))
    except ImageError:
        return UPRIGHT


def _find_view(label_size: Size, image_tag: int, image_size: Size) -> str:
    """Returns "upright" or "stored": the view of an image that has the proportions of the label."""
    if orientation.exchanges_sides(image_tag):
        before = image_size[::-1]
        if label_size in (image_size, before) and image_size != before:
            return "upright" if label_size == image_size else "stored"
        as_upright, as_stored = (are_alike(label_size, size) for size in (image_size, before))
        if not (as_upright and as_stored):
            return "stored" if as_stored else "upright"
    raise FaultError(
        "labels of images that are turned",
        f"belongs to an image with the EXIF orientation {image_tag}, and its size does not tell "
        "whether it fits the image before or after turning",
        remedy=_CHOICE,
    )


def are_alike(size: Size, other: Size) -> bool:
    """Returns whether one size is a multiple of the other, but for rounding to whole pixels."""
    (small_height, small_width), (height, width) = sorted((size, other))
    lowest = max((small_height - 1) / height, (small_width - 1) / width)
    highest = min((small_height + 1) / height, (small_width + 1) / width)
    return lowest <= highest


def _check_size(label_size: Size, image_size: Size, decoding: Decoding) -> None:
    if label_size == image_size:
        return
    label, image = ("x".join(map(str, size)) for size in (label_size, image_size))
    sizes = f"is {label} (height x width), but its image {image}"
    swapped = image_size[::-1]
    if label_size == swapped or (
        are_alike(label_size, swapped) and not are_alike(label_size, image_size)
    ):
        raise FaultError(
            "labels that are turned against their images",
            f"{sizes}: one of them lies on its side",
            remedy="turn it",
        )
    if not decoding.any_proportions and not are_alike(label_size, image_size):
        raise FaultError(
            "labels of other proportions than their images",
            f"{sizes}, which has other proportions",
            remedy="crop or resize one of them so that both show the same",
        )
