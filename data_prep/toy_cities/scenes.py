"""Renders whole splits to PNG files in memory, in this process or in several.

Synopsis:

  with SceneFactory(workers=2) as factory:
      for scene in factory.scenes(settings, Domain.SOURCE, Split.TRAIN, 1500):
          ...  # scene.name, scene.image_png, scene.label_png, in order
"""

import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import os
import threading
from collections.abc import Iterator
from types import TracebackType

import cv2
import numpy as np

from data_prep.toy_cities.render import Domain, Settings, Split, render

_CHUNK = 25  # images a worker renders at a time
_PNG_SETTINGS = (
    cv2.IMWRITE_PNG_COMPRESSION,
    6,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_DEFAULT,
)


@dataclasses.dataclass(frozen=True)
class EncodedScene:
    """An image and its label map as PNG files, RGB and single-channel Cityscapes label ids."""

    name: str
    image_png: bytes
    label_png: bytes


class SceneFactory:
    """Renders splits with a number of worker processes; 1 renders in this process.

    The images do not depend on the number of workers. The target training split, which is written
    twice (images here, labels there), is rendered once and kept.
    """

    def __init__(self, workers: int = 1) -> None:
        """Starts the workers when the first split is rendered."""
        self._executor: concurrent.futures.ProcessPoolExecutor | None = None
        if workers > 1:
            self._executor = concurrent.futures.ProcessPoolExecutor(
                workers, multiprocessing.get_context("spawn"), initializer=_start_worker
            )
        self._kept: dict[tuple[Settings, int], list[EncodedScene]] = {}

    def __enter__(self) -> "SceneFactory":
        """Gives itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the workers; what they had not begun is dropped."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

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
        starts = range(0, count, _CHUNK)
        ends = [min(start + _CHUNK, count) for start in starts]
        tasks = (itertools.repeat(x, len(ends)) for x in (settings, domain, split))
        mapper = map if self._executor is None else self._executor.map
        for chunk in mapper(render_chunk, *tasks, starts, ends):
            if written_twice:
                kept += chunk
            yield from chunk
        if written_twice:
            self._kept[key] = kept


def render_chunk(
    settings: Settings, domain: Domain, split: Split, start: int, end: int
) -> list[EncodedScene]:
    """Renders and encodes the scenes start .. end - 1 of a split."""
    scenes = []
    for index in range(start, end):
        image, labels = render(settings, domain, split, index)
        name = f"{domain.name.lower()}_{split.name.lower()}_{index:05d}"
        scenes.append(EncodedScene(name, _encode(image[:, :, ::-1]), _encode(labels)))
    return scenes


def _encode(pixels: np.ndarray) -> bytes:
    """PNG bytes of [H, W] or [H, W, 3] (blue first) uint8 pixels."""
    done, png = cv2.imencode(".png", np.ascontiguousarray(pixels), _PNG_SETTINGS)
    assert done
    return png.tobytes()


def _start_worker() -> None:
    """One thread per worker; a worker whose parent was killed ends itself."""
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
