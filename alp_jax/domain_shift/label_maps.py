"""Reads label maps of two domains for training and validation, and cuts patches of them.

Synopsis:

  domains = open_domains(config.data, seed=0, num_validation=500, label_set=label_set)
  batches = create_train_batches(domains, size, 32, batch_size=8, seed=0, run=0)
  batches[step]                                   # [16, H, W] uint8: 8 of the source, 8 target
  wholes = read_validation_maps(domains, size)    # [1000, H, W] uint8: 500 and 500
  maps = crop_validation_maps(wholes, 32, seed=0)

A patch is resized to the size of the whole map, so that the classifier sees one size only.
"""

import dataclasses

import grain
import numpy as np
from PIL import Image

from alp_jax.data import sources
from alp_jax.data.labels import IGNORE_LABEL, LabelSet
from alp_jax.data.pipeline import resize
from alp_jax.domain_shift.settings import ShiftDataSettings
from alp_jax.errors import UserError

Size = tuple[int, int]  # (height, width), pixels

# Roles of the random streams made from the experiment's seed.
_HOLD_OUT, _ORDER, _VALIDATION_CROPS = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Part:
    """Some records of a split.

    Attributes:
      source: the split.
      indices: [N] numbers of the records.
    """

    source: sources.SegmentationSource
    indices: np.ndarray

    def maps(self, size: Size) -> grain.MapDataset:
        """Returns the label maps, [*size] uint8 train ids, resized by nearest neighbour."""

        def read(index: int) -> np.ndarray:
            label_map = self.source[int(index)]["label"]
            return resize(label_map, size, Image.Resampling.NEAREST)

        return grain.MapDataset.source(self.indices).map(read)


@dataclasses.dataclass(frozen=True)
class Domains:
    """(source, target) maps to train on, and to validate with; equally many of each validate."""

    train: tuple[Part, Part]
    validation: tuple[Part, Part]


def open_domains(
    config: ShiftDataSettings, *, seed: int, num_validation: int, label_set: LabelSet
) -> Domains:
    """Opens both domains and chooses the validation maps.

    Validation maps of the source are held out of its split at random. Validation maps of the target
    are chosen at random from `target_validation`, or held out of the target's split if that is
    empty. The choice is a function of the seed, the same in every run.

    Args:
      config: `config.data` (fields: `alp_jax.domain_shift.settings`).
      seed: seed of the experiment.
      num_validation: validation maps of each domain.
      label_set: classes of both domains.
    Raises:
      UserError: if a dataset is missing, has no labels or too few maps.
    """

    def open_split(role: str) -> sources.SegmentationSource:
        return sources.open_source(
            config.data_dir,
            *config.records(role),
            label_set=label_set,
            read_images=False,
            fields=sources.Fields(*config.fields(role)),
        )

    def divide(source: sources.SegmentationSource, stream: int, needed: int) -> tuple[Part, Part]:
        """Returns (the rest, num_validation records chosen at random)."""
        if len(source) < needed:
            raise UserError(
                f"{source.title} has {len(source)} label maps: expected at least {needed}; lower "
                f"--config.num_validation ({num_validation}) or name a larger split."
            )
        order = np.random.default_rng([seed, _HOLD_OUT, stream]).permutation(len(source))
        held_out, rest = np.sort(order[:num_validation]), np.sort(order[num_validation:])
        return Part(source, rest), Part(source, held_out)

    source_train, source_validation = divide(open_split("source"), 0, num_validation + 1)
    target = open_split("target")
    if config.target_validation:
        target_train = Part(target, np.arange(len(target)))
        _, target_validation = divide(open_split("target_validation"), 1, num_validation)
    else:
        target_train, target_validation = divide(target, 1, num_validation + 1)
    return Domains((source_train, target_train), (source_validation, target_validation))


def crop(
    label_map: np.ndarray, patch_size: int | None, size: Size, rng: np.random.Generator
) -> np.ndarray:
    """Cuts a square patch at a uniformly random place, and resizes it by nearest neighbour.

    Args:
      label_map: [H, W] uint8 train ids.
      patch_size: side in pixels, at most H and W; None keeps the whole map.
      size: (height, width) to resize to; the paper's stretches squares to 1:2.
      rng: generator of the place.
    Returns:
      [*size] uint8 train ids.
    """
    if patch_size is not None:
        top, left = (int(rng.integers(side - patch_size + 1)) for side in label_map.shape)
        label_map = label_map[top : top + patch_size, left : left + patch_size]
    return resize(np.ascontiguousarray(label_map), size, Image.Resampling.NEAREST)


def create_train_batches(
    domains: Domains, size: Size, patch_size: int | None, *, batch_size: int, seed: int, run: int
) -> grain.MapDataset:
    """Creates the batch of every step, a function of (seed, run, step).

    Runs differ in order and places; patch sizes within a run see the same maps in the same order.

    Returns:
      endless dataset of [2 * batch_size, *size] uint8 train ids, the source's maps first.
    """

    def stream(domain: int) -> grain.MapDataset:
        entropy = np.random.SeedSequence([seed, _ORDER, run, domain])
        maps = domains.train[domain].maps(size).seed(int(entropy.generate_state(1)[0])).shuffle()
        cropped = maps.random_map(lambda label_map, rng: crop(label_map, patch_size, size, rng))
        return cropped.repeat().batch(batch_size)

    return grain.experimental.ZipMapDataset([stream(0), stream(1)]).map(np.concatenate)


def read_validation_maps(domains: Domains, size: Size) -> np.ndarray:
    """Reads all validation maps: [2N, *size] uint8, the source's N maps first.

    Raises:
      UserError: if the maps of a domain all hold one and the same value, and so show no layout.
    """
    maps = []
    for part in domains.validation:
        maps.append(np.stack(list(part.maps(size).to_iter_dataset())))
        values = np.unique(maps[-1])
        if len(values) == 1:
            assert part.source.label_set is not None
            classes = part.source.label_set.names
            names = dict(enumerate(classes)) | {IGNORE_LABEL: "pixels without a class"}
            raise UserError(
                f"All {len(maps[-1])} label maps of {part.source.title} that validate hold only "
                f"{names[int(values[0])]}: expected at least two classes, as there is no layout to "
                "tell apart; prepare the labels with a --label_map that says what their values "
                "mean, or name their classes in --config.data.label_set."
            )
    return np.concatenate(maps)


def crop_validation_maps(wholes: np.ndarray, patch_size: int | None, *, seed: int) -> np.ndarray:
    """Cuts one patch of each map, at a place that is a function of (seed, map): [2N, H, W]."""
    if patch_size is None:
        return wholes
    size = wholes.shape[1:]
    return np.stack(
        [
            crop(whole, patch_size, size, np.random.default_rng([seed, _VALIDATION_CROPS, index]))
            for index, whole in enumerate(wholes)
        ]
    )
