"""Writes the records of one split to array_record files of about 1 GB, one record at a time."""

import contextlib
from collections.abc import Iterator
from typing import Self

import tensorflow_datasets as tfds
from array_record.python import array_record_module  # type: ignore[import-untyped]

from alp_jax.errors import UserError

SHARD_BYTES = 1 << 30


class ShardWriter:
    """Writes serialized records in order, one file after the other.

    TFDS's own writer first collects the whole split, beyond 1 GB in a file and with TensorFlow.
    With consecutive keys, which keep the order, it finally holds all of the split in memory.
    """

    def __init__(self, template: tfds.core.ShardedFileTemplate) -> None:
        """Creates the writer; `template` has the folder and the names of the files."""
        self._template = template
        self._lengths: list[int] = []
        self._num_bytes = self._shard_bytes = 0
        self._writer: array_record_module.ArrayRecordWriter | None = None

    def __enter__(self) -> Self:
        """Returns the writer."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the last file."""
        self._close()

    def write(self, record: bytes) -> None:
        """Appends a record."""
        if self._writer is None or self._shard_bytes + len(record) > SHARD_BYTES:
            self._close()
            # One record per group for random access, as in TFDS; PNG and JPEG compress no further.
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
        """Renames the files to their final names, which contain the number of files."""
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
    """Turns array_record's RuntimeError into a UserError, for example about a full disk."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).split(";")[0]
        raise UserError(f"Cannot write in {folder}: {reason}.") from error
