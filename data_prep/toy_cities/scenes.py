"""Renders whole splits to PNG files in memory, in one or several processes.

Synopsis:

  with SceneFactory(workers=2) as factory:
      for scene in factory.scenes(settings, Domain.SOURCE, Split.TRAIN, 1500):
          ...  # scene.name, scene.image_png, scene.label_png, in order
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Self

import cv2
import numpy as np

from data_prep.common.png import encode_png
from data_prep.common.tally import count_values
from data_prep.common.workers import WorkerPool
from data_prep.toy_cities.render import Domain, Settings, Split, render

_CHUNK = 25  # images per task of a worker
_PNG_SETTINGS = (
    cv2.IMWRITE_PNG_COMPRESSION,
    6,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_DEFAULT,
)


@dataclasses.dataclass(frozen=True)
class EncodedScene:
    """An image and its label map as PNG files, RGB and single-channel Cityscapes label ids.

    pixels: [256] pixels of each label id.
    """

    name: str
    image_png: bytes
    label_png: bytes
    pixels: np.ndarray = dataclasses.field(compare=False)


class SceneFactory:
    """Renders splits with a number of worker processes; 1 renders in this process.

    The images do not depend on the number of workers. The target's training split is written twice,
    as a dataset of images and one of labels; it is rendered once and kept in between.
    """

    def __init__(self, workers: int = 1) -> None:
        """Creates the factory; the workers start with the first split."""
        self._pool = WorkerPool(workers)
        self._kept: dict[tuple[Settings, int], list[EncodedScene]] = {}

    def __enter__(self) -> Self:
        """Returns the factory."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the workers and cancels images that they have not started."""
        self._pool.close()

    def scenes(
        self, settings: Settings, domain: Domain, split: Split, count: int
    ) -> Iterator[EncodedScene]:
        """Yields the scenes 0 .. count - 1 of a split in order."""
        key = (settings, count)
        written_twice = (domain, split) == (Domain.TARGET, Split.TRAIN)
        if written_twice and key in self._kept:
            yield from self._kept.pop(key)
            return
        kept = []
        render_from = functools.partial(render_chunk, settings, domain, split, count)
        for chunk in self._pool.map(render_from, range(0, count, _CHUNK)):
            if written_twice:
                kept += chunk
            yield from chunk
        if written_twice:
            self._kept[key] = kept


def render_chunk(
    settings: Settings, domain: Domain, split: Split, count: int, start: int
) -> list[EncodedScene]:
    """Renders and encodes the chunk of a split of `count` scenes that begins at scene `start`."""
    scenes = []
    for index in range(start, min(start + _CHUNK, count)):
        image, labels = render(settings, domain, split, index)
        name = f"{domain.name.lower()}_{split.name.lower()}_{index:05d}"
        image_png, label_png = (encode_png(pixels, _PNG_SETTINGS) for pixels in (image, labels))
        scenes.append(EncodedScene(name, image_png, label_png, count_values(labels)))
    return scenes
