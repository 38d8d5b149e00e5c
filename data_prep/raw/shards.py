"""Writing the records of one split to array_record files of about 1 GB, as they come."""

import contextlib
from collections.abc import Iterator
from typing import Self

import tensorflow_datasets as tfds
from array_record.python import array_record_module  # type: ignore[import-untyped]

from alp_jax.errors import UserError

SHARD_BYTES = 1 << 30


class ShardWriter:
    """Writes serialized records in order, one file after the other.

    TFDS's own writer first collects the whole split: beyond 1 GB in a file, with TensorFlow, and
    where keys are consecutive, which is what keeps the order, at the end all of it in memory.
    """

    def __init__(self, template: tfds.core.ShardedFileTemplate) -> None:
        """Takes the folder and the names of the files."""
        self._template = template
        self._lengths: list[int] = []
        self._num_bytes = self._shard_bytes = 0
        self._writer: array_record_module.ArrayRecordWriter | None = None

    def __enter__(self) -> Self:
        """Gives itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the last file."""
        self._close()

    def write(self, record: bytes) -> None:
        """Appends a record."""
        if self._writer is None or self._shard_bytes + len(record) > SHARD_BYTES:
            self._close()
            # One record a group for random access, as TFDS does; PNG and JPEG compress no further.
            path = self._part(len(self._lengths))
            self._writer = array_record_module.ArrayRecordWriter(
                str(path), "group_size:1,uncompressed"
            )
            self._lengths.append(0)
            self._shard_bytes = 0
        with _writing_to(self._template.data_dir):
            self._writer.write(record)
        self._lengths[-1] += 1
        self._shard_bytes += len(record)
        self._num_bytes += len(record)

    def finish(self) -> tfds.core.SplitInfo:
        """Gives the files their names, which tell how many there are."""
        self._close()
        for index in range(len(self._lengths)):
            name = self._template.sharded_filepath(shard_index=index, num_shards=len(self._lengths))
            self._part(index).rename(name)
        return tfds.core.SplitInfo(
            name=self._template.split,
            shard_lengths=self._lengths,
            num_bytes=self._num_bytes,
            filename_template=self._template,
        )

    def _part(self, index: int) -> tfds.core.Path:
        return self._template.data_dir / f"{self._template.split}.part{index}"

    def _close(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            with _writing_to(self._template.data_dir):
                writer.close()


@contextlib.contextmanager
def _writing_to(folder: tfds.core.Path) -> Iterator[None]:
    """Says what array_record's RuntimeError means: a full disk, for instance."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).split(";")[0]
        raise UserError(f"Cannot write in {folder}: {reason}.") from error
