"""Reads examples of a prepared dataset by index: TFDS records -> numpy images and train ids.

Synopsis:

  label_set = load_label_set("cityscapes_16")
  source = open_source("datasets", "toy_cities/source", "train", label_set=label_set)
  source[0]   # {"name": str, "image": [H, W, 3] uint8 RGB, "label": [H, W] uint8 train ids, ...}

A dataset is a folder DATA_DIR/NAME/VERSION that a TFDS builder wrote, with features `image`,
`name` and, if it is labelled, `label`. Reading needs no builder code. Its metadata.json says which
class each label value is (otherwise values are Cityscapes label ids), and to which size preparation
resized the images, if it did.
"""

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import tensorflow_datasets as tfds

from alp_jax.data import matching, prepared, suitability
from alp_jax.data.labels import CITYSCAPES_TABLE, LabelSet, LabelTable
from alp_jax.data.suitability import NO_FIELDS, Fields
from alp_jax.errors import UserError, describe

logger = logging.getLogger(__name__)

Example = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Resizing:
    """Resizing of a dataset's images during its preparation.

    Attributes:
      size: (height, width), pixels.
      image_resize: the filter, as `config.data.image_resize`.
    """

    size: tuple[int, int]
    image_resize: str

    def to_metadata(self) -> tfds.core.MetadataDict:
        """Returns the metadata that a builder gives its DatasetInfo."""
        return tfds.core.MetadataDict(resized_to=list(self.size), image_resize=self.image_resize)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any] | None) -> Self | None:
        """Reads the metadata of a DatasetInfo; returns None if images were not resized."""
        if not metadata or "resized_to" not in metadata:
            return None
        height, width = metadata["resized_to"]
        return cls((height, width), metadata["image_resize"])


@dataclasses.dataclass(frozen=True)
class SegmentationSource:
    """One split of a dataset, decoded on access; picklable for worker processes.

    Attributes:
      records: the TFDS data source of the split.
      title: NAME:SPLIT, for messages.
      label_set: the classes to read; None reads no label.
      read_images: False leaves images out.
      shards: (file, its number of records) in order, for messages.
      max_bad_records: longest series of corrupt records that is replaced by the next record.
      resizing: resizing of the images during preparation; None if they have their own sizes.
      table: classes of the label values.
    """

    records: Sequence[Example]
    title: str
    label_set: LabelSet | None
    read_images: bool = True
    shards: tuple[tuple[str, int], ...] = ()
    max_bad_records: int = 0
    resizing: Resizing | None = None
    table: LabelTable = CITYSCAPES_TABLE

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        """Reads one example.

        Returns:
          {"name", "id", "skipped"[, "image"][, "label"]}: `id` is the number of the record that
          was read; `skipped` is `index` if that record is corrupt and was replaced, or -1.
        Raises:
          UserError: if the record cannot be decoded, or its label holds an unknown value.
        """
        for offset in range(self.max_bad_records + 1):
            found = (index + offset) % len(self)
            try:
                example = self._read(found)
            except UserError:
                if offset == self.max_bad_records:
                    raise
            else:
                skipped = index if offset else -1
                return {"id": np.int32(found), "skipped": np.int32(skipped), **example}
        raise AssertionError("The last turn of the loop returns or raises.")

    def _read(self, index: int) -> Example:
        try:
            record = self.records[index]
            example: Example = {"name": record["name"].decode()}
        except Exception as error:  # Codecs raise many types; the user must know which record.
            raise UserError(
                f"{self.locate(index).capitalize()} is corrupt ({describe(error)}): "
                f"{prepared.ANEW}, or leave out a few such records with "
                "--config.data.max_bad_records."
            ) from error
        if self.read_images:
            example["image"] = record["image"]
        if self.label_set is not None:
            values, is_known = record["label"][..., 0], self.table.is_known
            # `take` is twice as fast as indexing.
            if not is_known.take(values).all():
                raise UserError(
                    f"Label {example['name']} of {self.title} holds the value "
                    f"{values[~is_known[values]][0]}: expected {self.table.describe()}."
                )
            example["label"] = self._train_ids.take(values)
        return example

    @functools.cached_property
    def _train_ids(self) -> np.ndarray:
        """[256] uint8: value of a label -> train id."""
        assert self.label_set is not None
        return self.label_set.map_table(self.table)

    def locate(self, index: int) -> str:
        """Describes where a record is: record 3 of tiny/source:train (number 1 in FILE)."""
        where = f"record {index} of {self.title}"
        for file, count in self.shards:
            if index < count:
                return f"{where} (number {index} in {file})"
            index -= count
        return where


def open_source(
    data_dir: str,
    name: str,
    split: str,
    *,
    label_set: LabelSet | None,
    labels_required: bool = True,
    read_images: bool = True,
    max_bad_records: int = 0,
    fields: Fields = NO_FIELDS,
) -> SegmentationSource:
    """Opens a split of a prepared dataset.

    Args:
      data_dir: folder that holds all prepared datasets.
      name: dataset and, if it has one, builder config: "toy_cities/source".
      split: "train", "validation", "test", or a TFDS slice of one ("train[:10]").
      label_set: the classes to read; None for a domain whose labels must not be read. Then a
        dataset that holds labels is refused, so that no training can see them by mistake.
      labels_required: False also opens a dataset without labels.
      read_images: False decodes no image, and also opens a dataset without images.
      max_bad_records: as in SegmentationSource.
      fields: fields of the configuration that name dataset and split, for messages.
    Raises:
      UserError: if the dataset or split does not exist, has unexpected features, shares no class
        with the label set, or needs labels and has no pixel of a class.
    """
    title = f"{name}:{split}"
    builder = prepared.open_builder(data_dir, name, field=fields.dataset)
    parts = prepared.resolve_split(builder, name, split, field=fields.split)
    read_labels = label_set is not None and (labels_required or "label" in builder.info.features)
    suitability.check_features(
        builder, title, fields, target=label_set is None, labels=read_labels, images=read_images
    )
    prepared.check_files(builder, name, parts)
    records = _open_records(builder, title, split, read_images=read_images)
    announce(f"Reading {title}: {len(records)} images.")
    table = prepared.read_metadata(builder, LabelTable.from_metadata) or CITYSCAPES_TABLE
    if label_set is not None and read_labels:
        matching.check_shared(title, table, label_set)
        for line in matching.describe_unmatched(title, table, label_set):
            announce(line)
        remark, doubt = suitability.check_labels(
            builder, title, parts, table, label_set, is_trained=labels_required
        )
        if remark:
            announce(remark)
        if doubt:
            _warn(doubt)
    return SegmentationSource(
        records,
        title,
        label_set if read_labels else None,
        read_images,
        _shards(builder, split),
        max_bad_records,
        prepared.read_metadata(builder, Resizing.from_metadata),
        table,
    )


def _open_records(
    builder: tfds.core.DatasetBuilder, title: str, split: str, *, read_images: bool
) -> Sequence[Example]:
    """Opens the records of a split."""
    skips_image = "image" in builder.info.features and not read_images
    decoders = {"image": tfds.decode.SkipDecoding()} if skips_image else None
    try:
        records: Sequence[Example] = builder.as_data_source(split, decoders=decoders)
        len(records)
    except OSError as error:
        raise UserError(
            f"Dataset {title} cannot be read ({describe(error)}): see to it that "
            f"{builder.data_path} can be read."
        ) from error
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"A file of records of dataset {title} in {builder.data_path} is damaged "
            f"({describe(error)}): {prepared.ANEW}."
        ) from error
    return records


def _shards(builder: tfds.core.DatasetBuilder, split: str) -> tuple[tuple[str, int], ...]:
    instructions = builder.info.splits[split].file_instructions
    return tuple((str(found.filename), int(found.examples_in_shard)) for found in instructions)


def locate_record(data_dir: str, name: str, split: str, index: int) -> str:
    """Describes where a record of a prepared dataset is, for people, without reading it."""
    shards = _shards(prepared.open_builder(data_dir, name), split)
    return SegmentationSource((), f"{name}:{split}", None, shards=shards).locate(index)


def name_records(data_dir: str, name: str, split: str, indices: Sequence[int]) -> list[str]:
    """Reads the names of records of a prepared dataset, without decoding other features."""
    builder = prepared.open_builder(data_dir, name)
    skipped = {feature: tfds.decode.SkipDecoding() for feature in builder.info.features}
    records = builder.as_data_source(split, decoders=skipped | {"name": None})
    return [f"{records[i]['name'].decode()} (record {i})" for i in indices]


@functools.cache
def announce(message: str) -> None:
    """Logs a message about data only once: a report opens the same split many times."""
    logger.info(message)


@functools.cache
def _warn(message: str) -> None:
    logger.warning(message)


def split_names(data_dir: str, name: str) -> list[str]:
    """Lists the splits of a prepared dataset; raises UserError if the dataset does not exist."""
    return sorted(prepared.open_builder(data_dir, name).info.splits)
