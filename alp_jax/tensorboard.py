"""Event files for TensorBoard, in its own record format: no TensorFlow, whose import takes seconds.

Synopsis:

  events = EventFile(workdir)
  events.write_scalars(step, {"loss/segmenter": 0.3})
  events.write_images(step, {"evaluation/image": pictures})     # [N, H, W, 3] uint8 RGB
"""

import os
import pathlib
import socket
import time
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]


class EventFile:
    """A new file, events.out.tfevents.*, in a folder."""

    def __init__(self, folder: pathlib.Path):
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._records = RecordWriter((folder / name).open("ab"))
        self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def close(self) -> None:
        """Closes the file."""
        self._records.close()

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes a point of each curve."""
        value = summary_pb2.Summary.Value
        self._write_values(step, [value(tag=tag, simple_value=x) for tag, x in scalars.items()])

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes pictures, [N, H, W, 3] uint8 RGB, as TAG/0, TAG/1, ..."""
        values = []
        for tag, pictures in images.items():
            for index, picture in enumerate(pictures):
                _, png = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
                image = summary_pb2.Summary.Image(
                    height=picture.shape[0],
                    width=picture.shape[1],
                    colorspace=3,
                    encoded_image_string=png.tobytes(),
                )
                values.append(summary_pb2.Summary.Value(tag=f"{tag}/{index}", image=image))
        self._write_values(step, values)

    def _write_values(self, step: int, values: Sequence[summary_pb2.Summary.Value]) -> None:
        summary = summary_pb2.Summary(value=values)
        self._write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: event_pb2.Event) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()
