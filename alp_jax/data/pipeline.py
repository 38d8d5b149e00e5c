"""Creates batches for training and evaluation with Grain, from TFDS data sources.

Synopsis:

  batches = create_train_batches(config.data, seed=0, label_set=label_set, domains=DOMAINS)
  batches[step]                                      # any step, any order: a function of the seed
  for batch in iterate(batches, start_step, ...):    # the same, prefetched in the background

Batches are numpy: images [B, H, W, 3] uint8 RGB (four times fewer bytes to the device than float32;
the network scales them), labels [B, H, W] uint8 train ids.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags
from PIL import Image

from alp_jax.command.stopping import follow_main_process
from alp_jax.data import sources
from alp_jax.data.labels import IGNORE_LABEL, LabelSet
from alp_jax.data.samples import Loaded, Notes, Sample, split_mixed
from alp_jax.data.settings import DataSettings
from alp_jax.errors import UserError

Example = dict[str, Any]

DOMAINS = ("source", "target")
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def resize(array: np.ndarray, size: tuple[int, int], resampling: Image.Resampling) -> np.ndarray:
    """Resizes [H, W] or [H, W, 3] to (height, width) with Pillow, as published code does.

    Args:
      array: uint8; [H, W] may be float32.
      size: (height, width), pixels.
      resampling: Pillow's filter.
    """
    if array.shape[:2] == tuple(size):
        return array
    return np.asarray(Image.fromarray(array).resize((size[1], size[0]), resampling))


def _resize_example(
    image_size: tuple[int, int], label_size: tuple[int, int] | None, image_resize: str
) -> Callable[[Example], Example]:
    """Creates a function that resizes images by `image_resize`, and labels by nearest neighbour.

    With label_size None, labels keep their size.
    """

    def apply(example: Example) -> Example:
        resized = {
            **example,
            "image": resize(example["image"], image_size, RESAMPLING[image_resize]),
        }
        if "label" in example and label_size is not None:
            resized["label"] = resize(example["label"], label_size, Image.Resampling.NEAREST)
        return resized

    return apply


def _check_resizing(
    source: sources.SegmentationSource, field: str, size: tuple[int, int], config: DataSettings
) -> None:
    """Refuses images that were resized during preparation and would be resized again.

    Raises:
      UserError: if preparation resized to another size, or by another filter.
    """
    prepared, wanted = source.resizing, sources.Resizing(size, config.image_resize)
    if prepared in (None, wanted):
        return
    here, there = (f"{r.size[0]},{r.size[1]} ({r.image_resize})" for r in (wanted, prepared))
    raise UserError(
        f"config.data.{field} is {here}, but the images of {source.title} were resized to {there} "
        f"when they were prepared, and resizing them again would change them: set that size and "
        f"filter (config.data.{field}, config.data.image_resize), or prepare the dataset without "
        "--size, or with this one."
    )


def _random_flip(probability: float) -> Callable[[Example, np.random.Generator], Example]:
    """Creates a function that mirrors image and label left to right with a probability."""

    def apply(example: Example, rng: np.random.Generator) -> Example:
        if rng.random() >= probability:
            return example
        keys = [key for key in ("image", "label") if key in example]
        return example | {key: example[key][:, ::-1] for key in keys}

    return apply


def _stream(
    source: sources.SegmentationSource,
    size: tuple[int, int],
    config: DataSettings,
    seed: int,
    stream: int,
) -> grain.MapDataset:
    """Creates an endless stream of one domain, reshuffled every epoch, independent of others."""
    stream_seed = int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
    dataset = grain.MapDataset.source(source).seed(stream_seed).shuffle()
    dataset = dataset.map(_resize_example(size, size, config.image_resize))
    if config.flip_probability > 0:
        dataset = dataset.random_map(_random_flip(config.flip_probability))
    return dataset.repeat()


def open_domain(
    config: DataSettings, domain: str, label_set: LabelSet, *, read_images: bool = True
) -> sources.SegmentationSource:
    """Opens the dataset of a domain for training: the source with labels, the target without.

    Args:
      config: `config.data`.
      domain: "source" or "target".
      label_set: classes of the source labels.
      read_images: whether images are read, too.
    Raises:
      UserError: if the dataset is missing, unsuitable, or was prepared at another size.
    """
    found = config.domain(domain)
    source = sources.open_source(
        config.data_dir,
        found.dataset,
        found.split,
        label_set=label_set if domain == "source" else None,
        read_images=read_images,
        max_bad_records=config.max_bad_records,
        fields=sources.Fields(f"config.data.{domain}", f"config.data.{domain}_split"),
    )
    _check_resizing(source, f"{domain}_size", found.size, config)
    return source


def create_train_batches(
    config: DataSettings,
    *,
    seed: int,
    label_set: LabelSet,
    domains: Sequence[str],
    images: Sequence[int] | None = None,
    others: Mapping[str, Sequence[Example]] | None = None,
) -> grain.MapDataset:
    """Creates the batch of every step: a function of (seed, step) alone.

    Args:
      config: `config.data` (fields: `alp_jax.data.settings`).
      seed: seed of the run.
      label_set: classes of the source labels.
      domains: domains to read; target images come without labels.
      images: positions to read in each batch of `config.batch_size`; None reads all.
      others: examples of further domains, in the order of training, practically endless.
    Returns:
      endless dataset of Loaded.
    Raises:
      UserError: if a dataset is missing, unsuitable, or was prepared at another size.
    """
    streams = []
    for domain in domains:
        if others and domain in others:
            streams.append(grain.MapDataset.source(others[domain]))
            continue
        source = open_domain(config, domain, label_set)
        image_size = config.domain(domain).size
        streams.append(_stream(source, image_size, config, seed, DOMAINS.index(domain)))

    def collect(examples: tuple[Example, ...]) -> Loaded:
        named = dict(zip(domains, examples, strict=True))
        return Loaded(
            {name: _sample(found) for name, found in named.items()},
            {name: _note(found) for name, found in named.items()},
        )

    if others:  # Grain zips what is of one length.
        length = min(map(len, streams))
        streams = [stream[:length] for stream in streams]
    pairs = grain.experimental.ZipMapDataset(streams).map(collect)
    size = config.batch_size
    if images is None or len(images) == size:
        return pairs.batch(size, drop_remainder=True, batch_fn=_stack)
    # One stream for each position in the batch; all have the same length, practically endless.
    end = len(pairs) // size * size
    columns = grain.experimental.ZipMapDataset([pairs[i:end:size] for i in images])
    return columns.map(_stack)


def _sample(example: Example) -> Sample:
    return Sample(example["image"], example.get("label"), from_target=example.get("from_target"))


def _note(example: Example) -> Notes:
    label = example.get("label")
    labelled = None if label is None else np.int32(np.count_nonzero(label != IGNORE_LABEL))
    return Notes(example["id"], example["skipped"], labelled, example.get("from_target"))


def _stack(examples: Sequence[Loaded]) -> Loaded:
    """Stacks the arrays of examples along a new first axis."""

    def stack(parts: Sequence[Any]) -> Iterator[np.ndarray | None]:
        for arrays in zip(*parts, strict=True):
            yield None if arrays[0] is None else np.stack(arrays)

    domains = examples[0].batch
    return Loaded(
        {name: Sample(*stack([example.batch[name] for example in examples])) for name in domains},
        {name: Notes(*stack([example.notes[name] for example in examples])) for name in domains},
    )


def name_examples(config: DataSettings, notes: Mapping[str, Notes]) -> list[str]:
    """Names the examples of a batch, for people, in one text for each domain.

    Args:
      config: `config.data`.
      notes: domain -> notes on its images.
    """
    texts = []
    for domain, noted in split_mixed(notes).items():
        name, split, _ = config.domain(domain)
        names = sources.name_records(config.data_dir, name, split, noted.ids.tolist())
        texts.append(f"{domain} images {', '.join(names)} of {name}:{split}")
    return texts


def iterate(
    batches: grain.MapDataset, start_step: int, *, num_workers: int, prefetch_batches: int
) -> grain.DatasetIterator:
    """Iterates from `start_step` on, prefetching in threads, or in `num_workers` processes.

    Closing the iterator ends the processes.
    """
    options = grain.ReadOptions(
        num_threads=max(prefetch_batches, 1), prefetch_buffer_size=max(prefetch_batches, 1)
    )
    dataset = batches[start_step:].to_iter_dataset(options)
    if num_workers > 0:
        # Grain reads absl flags for its workers; in a notebook nobody has parsed them.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(num_workers, prefetch_batches),
            worker_init_fn=follow_main_process,
        ).map(_copy_arrays)
    return iter(dataset)


def _copy_arrays(node: Any) -> Any:
    """Copies the arrays of a batch out of the shared memory in which a reader process left them.

    JAX may keep a host's array for as long as its own; shared memory that is still held when Python
    ends is reported as leaked.
    """
    if isinstance(node, np.ndarray):
        return np.array(node)
    if isinstance(node, dict):
        return {key: _copy_arrays(part) for key, part in node.items()}
    if isinstance(node, tuple):
        parts = [_copy_arrays(part) for part in node]
        return type(node)(*parts) if hasattr(node, "_fields") else tuple(parts)
    return node


def create_eval_batches(
    config: DataSettings,
    *,
    dataset: str,
    split: str,
    batch_size: int,
    label_set: LabelSet,
) -> tuple[grain.MapDataset, int]:
    """Creates the batches of a whole split in fixed order, each image exactly once.

    Images are resized to `config.target_size`; labels keep their size and are scored at it. In a
    dataset without labels, every image gets a label of its size with all pixels ignored.

    Returns:
      (batches, number of images): batches are {"images", "labels", "names", "mask" [B] bool}; the
      last is padded to the full size with images whose mask is False and labels are ignored.
    Raises:
      UserError: if the dataset is missing or was prepared at another size, or label sizes differ
        within it.
    """
    source = sources.open_source(
        config.data_dir,
        dataset,
        split,
        label_set=label_set,
        labels_required=False,
        fields=sources.Fields("config.evaluation.dataset", "config.evaluation.split or --split"),
    )
    _check_resizing(source, "target_size", config.target_size, config)
    if source.label_set is None:
        sources.announce(f"{source.title} has no labels: entropy and pictures, but no scores.")

    def add_missing_label(example: Example) -> Example:
        if "label" in example:
            return example
        return example | {"label": np.full(example["image"].shape[:2], IGNORE_LABEL, np.uint8)}

    def collect(examples: list[Example]) -> Example:
        shapes = {example["label"].shape for example in examples}
        if len(shapes) > 1:
            raise UserError(
                f"Labels of {source.title} have different sizes "
                f"({', '.join('x'.join(map(str, shape)) for shape in sorted(shapes))}): expected "
                "one size in a batch; give --config.evaluation.batch_size=1."
            )
        padding = batch_size - len(examples)
        widths = [(0, padding), (0, 0), (0, 0)]
        images = np.stack([example["image"] for example in examples])
        labels = np.stack([example["label"] for example in examples])
        return {
            "images": np.pad(images, [*widths, (0, 0)]),
            "labels": np.pad(labels, widths, constant_values=IGNORE_LABEL),
            "names": [example["name"] for example in examples] + [""] * padding,
            "mask": np.arange(batch_size) < len(examples),
        }

    resize_images = _resize_example(config.target_size, None, config.image_resize)
    examples = grain.MapDataset.source(source).map(add_missing_label).map(resize_images)
    return examples.batch(batch_size, batch_fn=collect), len(source)
