"""Defines the TFDS builder: four configurations, so that training never reads a target label.

  source               train, validation, test: image, label, name
  target               validation, test: image, label, name
  target_unlabelled    train: image, name
  target_train_labels  train: label, name (for analysis; same names, same order)

The name of a configuration includes every parameter that differs from its default, for example
target_camera0.50_appearance0.30, so two datasets never share a directory.
"""

import dataclasses
import enum
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from alp_jax.data.digests import digest
from alp_jax.errors import UserError
from data_prep.common.datasets import FILE_FORMAT
from data_prep.common.tally import Tally
from data_prep.toy_cities.render import Domain, Settings, Split
from data_prep.toy_cities.scenes import EncodedScene, SceneFactory

NUM_TRAIN = 1500
NUM_EVAL = 200
_SIZE_LIMITS = (16, 1024)


class Part(enum.StrEnum):
    """The four configurations."""

    SOURCE = "source"
    TARGET = "target"
    TARGET_UNLABELLED = "target_unlabelled"
    TARGET_TRAIN_LABELS = "target_train_labels"

    @property
    def domain(self) -> Domain:
        """City of the configuration."""
        return Domain.SOURCE if self is Part.SOURCE else Domain.TARGET

    @property
    def splits(self) -> tuple[Split, ...]:
        """Splits of the configuration."""
        if self is Part.SOURCE:
            return (Split.TRAIN, Split.VALIDATION, Split.TEST)
        return (Split.VALIDATION, Split.TEST) if self is Part.TARGET else (Split.TRAIN,)

    @property
    def has_image(self) -> bool:
        """Whether records hold images."""
        return self is not Part.TARGET_TRAIN_LABELS

    @property
    def has_label(self) -> bool:
        """Whether records hold labels."""
        return self is not Part.TARGET_UNLABELLED


@dataclasses.dataclass(eq=False, kw_only=True)
class ToyCitiesConfig(tfds.core.BuilderConfig):
    """A configuration. num_train, num_eval: images in train, and in each of validation and test."""

    part: Part
    settings: Settings = dataclasses.field(default_factory=Settings)
    num_train: int = NUM_TRAIN
    num_eval: int = NUM_EVAL

    def counts(self) -> Mapping[Split, int]:
        """Returns {split: number of images}."""
        return {
            split: self.num_train if split == Split.TRAIN else self.num_eval
            for split in self.part.splits
        }


def _name(part: Part, settings: Settings, num_train: int, num_eval: int) -> str:
    """Returns the part's name with every parameter that affects the part and is not the default."""
    default = Settings()
    suffix = ""
    if part.domain == Domain.TARGET:
        for word in ("camera", "appearance"):
            value = getattr(settings, f"{word}_shift")
            if value != getattr(default, f"{word}_shift"):
                short = f"{value:.2f}"
                suffix += f"_{word}{short if float(short) == value else repr(value)}"
    if settings.seed != default.seed:
        suffix += f"_seed{settings.seed}"
    if (settings.height, settings.width) != (default.height, default.width):
        suffix += f"_{settings.height}x{settings.width}"
    if Split.TRAIN in part.splits and num_train != NUM_TRAIN:
        suffix += f"_train{num_train}"
    if Split.TEST in part.splits and num_eval != NUM_EVAL:
        suffix += f"_eval{num_eval}"
    return part.value + suffix


def _check(settings: Settings, num_train: int, num_eval: int) -> None:
    for name in ("camera_shift", "appearance_shift"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise UserError(f"{name} is {value}, but it must be a number from 0 to 1.")
    low, high = _SIZE_LIMITS
    for name in ("height", "width"):
        value = getattr(settings, name)
        if not low <= value <= high:
            raise UserError(f"{name} is {value}, but it must be {low} to {high} pixels.")
    if not 0 <= settings.seed < 2**63:
        raise UserError(f"seed is {settings.seed}, but it must be 0 or a positive 63-bit integer.")
    for name, value in (("num_train", num_train), ("num_eval", num_eval)):
        if not 1 <= value <= 99_999:
            raise UserError(f"{name} is {value}, but it must be 1 to 99999 images.")


def make_config(
    part: Part,
    settings: Settings | None = None,
    num_train: int = NUM_TRAIN,
    num_eval: int = NUM_EVAL,
) -> ToyCitiesConfig:
    """Creates a configuration and its name.

    Raises:
        UserError: if a parameter is out of its range.
    """
    settings = settings or Settings()
    _check(settings, num_train, num_eval)
    if part.domain == Domain.SOURCE:  # the shifts affect the target city only
        settings = Settings(settings.seed, settings.height, settings.width)
    name = _name(part, settings, num_train, num_eval)
    for config in ToyCities.BUILDER_CONFIGS:
        if config.name == name:
            return config  # TFDS requires the registered object itself
    return ToyCitiesConfig(
        name=name,
        description=f"{part.value} of toy_cities with {settings}.",
        part=part,
        settings=settings,
        num_train=num_train,
        num_eval=num_eval,
    )


class ToyCities(tfds.core.GeneratorBasedBuilder):
    """Writes one configuration of toy_cities, with records in the order of image numbers."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    BUILDER_CONFIGS: ClassVar[list[ToyCitiesConfig]] = [
        ToyCitiesConfig(
            name=part.value, description=f"{part.value} of toy_cities, as published.", part=part
        )
        for part in Part
    ]

    def __init__(self, *, factory: SceneFactory | None = None, **kwargs: Any) -> None:
        """Creates the builder; by default its factory renders in this process."""
        self._factory = factory or SceneFactory()
        self._tally = Tally()
        kwargs.setdefault("file_format", FILE_FORMAT)
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        size = (config.settings.height, config.settings.width)
        features: dict[str, tfds.features.FeatureConnector] = {"name": tfds.features.Text()}
        if config.part.has_image:
            features["image"] = tfds.features.Image(shape=(*size, 3), encoding_format="png")
        if config.part.has_label:
            features["label"] = tfds.features.Image(shape=(*size, 1), encoding_format="png")
        return tfds.core.DatasetInfo(
            builder=self,
            description="Two rendered cities for unsupervised domain adaptation of segmentation.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing is downloaded
        config = self.builder_config
        return {
            split.name.lower(): self._generate_examples(
                split.name.lower(),
                self._factory.scenes(config.settings, config.part.domain, split, count),
            )
            for split, count in config.counts().items()
        }

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        super()._download_and_prepare(dl_manager, download_config)
        self._tally.save(pathlib.Path(self.data_path))

    def _generate_examples(
        self, split: str, scenes: Iterator[EncodedScene]
    ) -> Iterator[tuple[int, dict[str, bytes | str]]]:
        part = self.builder_config.part
        for index, scene in enumerate(scenes):
            example: dict[str, bytes | str] = {"name": scene.name}
            if part.has_image:
                example["image"] = scene.image_png
            if part.has_label:
                example["label"] = scene.label_png
            content = digest([scene.name.encode(), scene.image_png, scene.label_png])
            self._tally.add(split, content, scene.pixels if part.has_label else None)
            yield index, example
