"""Draws a sheet of images above their label maps: source city left, target city right."""

import os
import pathlib

import cv2
import numpy as np

from alp_jax.data.labels import CITYSCAPES_TABLE, load_label_set
from alp_jax.errors import UserError
from data_prep.toy_cities.render import Domain, Settings, Split, render

_ROWS, _COLUMNS = 4, 3
_ZOOM = 3
_GAP_PIXELS = 8


def draw_preview(settings: Settings, rows: int = _ROWS, columns: int = _COLUMNS) -> np.ndarray:
    """Draws the first validation images of both cities, enlarged: [height, width, 3] uint8 RGB."""
    label_set = load_label_set("cityscapes_16")
    train_ids = label_set.map_table(CITYSCAPES_TABLE)
    halves = []
    for domain in Domain:
        strips = []
        for row in range(rows):
            pairs = [
                render(settings, domain, Split.VALIDATION, row * columns + column)
                for column in range(columns)
            ]
            strips.append(np.hstack([image for image, _ in pairs]))
            maps = [label_set.colourise(train_ids[ids]) for _, ids in pairs]
            strips.append(np.hstack(maps))
        halves.append(np.vstack(strips).repeat(_ZOOM, axis=0).repeat(_ZOOM, axis=1))
    gap = np.full((len(halves[0]), _GAP_PIXELS, 3), 255, np.uint8)
    return np.hstack([halves[0], gap, halves[1]])


def write_preview(path: str, settings: Settings) -> None:
    """Writes the sheet as a PNG file.

    Raises:
        UserError: if the path does not end in .png, exists already, or cannot be written.
    """
    if pathlib.Path(path).suffix.lower() != ".png":
        raise UserError(f"--preview is {path!r}, but it must name a .png file.")
    if os.path.lexists(path):
        raise _exists(path)
    done, png = cv2.imencode(".png", draw_preview(settings)[:, :, ::-1])
    assert done
    try:
        with pathlib.Path(path).open("xb") as file:
            file.write(png.tobytes())
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}.") from error


def _exists(path: str) -> UserError:
    return UserError(
        f"--preview is {path!r}, which exists already, and nothing is overwritten: give another "
        "name, or remove it."
    )
