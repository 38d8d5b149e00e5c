"""Builds raw datasets with TFDS: DATA_DIR/NAME/CONFIG/1.0.0, records in the order of names.

Features: image (8-bit RGB, PNG or JPEG: the raw file itself if nothing had to change), name, and,
in a configuration with labels, label (8-bit PNG). metadata.json holds the classes of the label
values (`LabelTable`); without these, values are Cityscapes label ids. Beside it lie class
frequencies, digests of the splits, and what the dataset was prepared from.

Synopsis:

  builder = Gta5(config="all", data_dir="datasets")
  builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(manual_dir="downloads/gta5")
  )
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from alp_jax.data.sources import Resizing
from alp_jax.errors import UserError
from data_prep.common.datasets import FILE_FORMAT
from data_prep.common.tally import Tally
from data_prep.common.workers import WorkerPool
from data_prep.raw import unreadable
from data_prep.raw.files import RawFiles
from data_prep.raw.images import RESIZING_FILTER
from data_prep.raw.layout import Fault, Layout, Pair, Selection
from data_prep.raw.meaning import Labels
from data_prep.raw.records import Recipe, make_record
from data_prep.raw.requests import Request, make_request
from data_prep.raw.shards import ShardWriter

Example = dict[str, bytes | str]


@dataclasses.dataclass(eq=False, kw_only=True)
class RawConfig(tfds.core.BuilderConfig):
    """A configuration; size: (height, width) to resize images and training labels to, or None."""

    layout: Layout
    size: tuple[int, int] | None = None

    def recipe(self, split: str) -> Recipe:
        """Returns the recipe of a split; labels to score on keep their size."""
        label_size = self.size if split == "train" else None
        return Recipe(self.layout.read_label, self.layout.decoding, self.size, label_size)


def make_config(layout: Layout, size: tuple[int, int] | None = None) -> RawConfig:
    """Creates a configuration; its name is the layout's, followed by _HEIGHTxWIDTH if resized."""
    name = layout.name if size is None else f"{layout.name}_{size[0]}x{size[1]}"
    return RawConfig(name=name, description=name, layout=layout, size=size)


class RawBuilder(tfds.core.GeneratorBasedBuilder):
    """Writes one configuration of a raw dataset.

    A subclass declares a name, its configurations and a description of the raw folder.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    BUILDER_CONFIGS: ClassVar[list[RawConfig]] = []
    RENAMED_BY: ClassVar[str] = "--data_dir"  # Flag that gives a dataset another place.

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Keeps a subclass out of TFDS's list of datasets, which may hold the same name."""
        super().__init_subclass__(skip_registration=True, **kwargs)

    def __init__(
        self,
        *,
        selection: Selection | None = None,
        pool: WorkerPool | None = None,
        skip_bad: bool = False,
        request: Request | None = None,
        on_pair: Callable[[], None] = lambda: None,
        **kwargs: Any,
    ) -> None:
        """Creates the builder.

        Args:
            selection: the pairs of each split; by default the pairs in the manual directory.
            pool: the worker processes; by default this process does the work.
            skip_bad: whether to leave out pairs with a fault, and list them in `faults`.
            request: what is noted with the dataset; by default what the selection says.
            on_pair: called after each pair.
            **kwargs: as for any builder.
        """
        self._selection = selection
        self._pool = pool or WorkerPool()
        self._skip_bad = skip_bad
        self._request = request
        self._on_pair = on_pair
        self._tally = Tally()
        self.faults: list[Fault] = []
        self.remarks: list[tuple[str, str]] = []
        self.keys: set[str] = set()
        kwargs.setdefault("file_format", FILE_FORMAT)
        super().__init__(**kwargs)

    @property
    def labels(self) -> Labels:
        """The labels that were written."""
        return Labels(self.builder_config.layout, self._tally.pixels, self._tally.names)

    @classmethod
    def config_for(cls, layout: Layout, size: tuple[int, int] | None) -> RawConfig:
        """Returns the configuration of a layout and size; TFDS requires the registered object."""
        config = make_config(layout, size)
        return next((c for c in cls.BUILDER_CONFIGS if c.name == config.name), config)

    def _info(self) -> tfds.core.DatasetInfo:
        features: dict[str, tfds.features.FeatureConnector] = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "name": tfds.features.Text(),
        }
        if self.builder_config.layout.has_label:
            features["label"] = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
        return tfds.core.DatasetInfo(
            builder=self,
            metadata=self._metadata(),
            description=f"{self.name} from {self.builder_config.layout.expected}: RGB images and, "
            f"where they are labelled, {self._describe_labels()}.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _metadata(self) -> tfds.core.MetadataDict | None:
        """Returns the facts that readers need: the size of images, the classes of label values."""
        config = self.builder_config
        facts: dict[str, Any] = {}
        if config.size is not None:
            facts |= Resizing(config.size, RESIZING_FILTER).to_metadata()
        if config.layout.table is not None:
            facts |= config.layout.table.to_metadata()
        return tfds.core.MetadataDict(facts) if facts else None

    def _describe_labels(self) -> str:
        table = self.builder_config.layout.table
        return "Cityscapes label ids" if table is None else f"labels {table.describe()}"

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, Example]]]:
        layout = self.builder_config.layout
        selection = self._selection or unreadable.select(layout, RawFiles(dl_manager.manual_dir))
        if not self._skip_bad:
            selection.check_partners()
        self.faults += selection.faults
        self._request = self._request or make_request(
            dl_manager.manual_dir, layout, selection, options={}
        )
        return {
            split: self._generate_examples(split, pairs) for split, pairs in selection.pairs.items()
        }

    def _generate_examples(self, split: str, pairs: list[Pair]) -> Iterator[tuple[int, Example]]:
        make = functools.partial(make_record, self.builder_config.recipe(split))
        index = 0
        for record in self._pool.map(make, pairs):
            if record.faults and not self._skip_bad:
                fault = record.faults[0]
                raise UserError(
                    f"{fault.file} {fault.reason}: {fault.remedy}; --check lists everything that "
                    "is wrong, and --skip_bad leaves it out."
                )
            self._on_pair()
            assert self._request is not None
            self._request.note_digests(split, record.name, record.file_digests)
            self.faults += record.faults
            if record.faults:
                continue
            self.remarks += record.remarks
            self.keys |= record.keys
            example: Example = {"name": record.name, "image": record.image}
            if record.label is not None:
                example["label"] = record.label
            self._tally.add(split, record.digest, record.pixels, record.name)
            yield index, example
            index += 1
        if index == 0:
            raise UserError(f"No image of {split} can be used: list what is wrong with --check.")

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        """Writes the splits one example at a time, for the reasons in ShardWriter."""
        del download_config
        features = self.info.features
        serializer = tfds.core.ExampleSerializer(features.get_serialized_info())
        infos = []
        for split, examples in self._split_generators(dl_manager).items():
            with ShardWriter(self._get_filename_template(split_name=split)) as writer:
                for _, example in examples:
                    writer.write(serializer.serialize_example(features.encode_example(example)))
                infos.append(writer.finish())
        self.info.set_splits(tfds.core.SplitDict(infos))
        fault = self.labels.find_fault()
        if fault:
            raise UserError(fault)
        self._note_facts(pathlib.Path(self.data_path))

    def _note_facts(self, folder: pathlib.Path) -> None:
        """Writes what was found out about the records, and what they were made from."""
        self._tally.save(folder)
        assert self._request is not None
        self._request.left_out += len(self.faults)
        self._request.write(folder)
