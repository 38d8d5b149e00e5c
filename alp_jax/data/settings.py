"""Declares the settings of a run's data: config.data."""

import dataclasses
from typing import Literal, NamedTuple

from alp_jax.data.labels import is_label_set_name, list_label_sets
from alp_jax.settings.schema import Size, refuse, setting


class Domain(NamedTuple):
    """Dataset and image size of a domain.

    Attributes:
      dataset: name of the dataset under data_dir.
      split: split of the dataset.
      size: (height, width) that images are resized to.
    """

    dataset: str
    split: str
    size: tuple[int, int]


def check_label_set(name: str, label_set: str) -> None:
    """Refuses a label set that is neither one of the package nor the path of a YAML file.

    The file is only read where its classes are needed: an existing run keeps a copy of them.
    """
    if not is_label_set_name(label_set):
        expected = f"one of {', '.join(list_label_sets())}, or the path of a .yaml file"
        refuse(name, label_set, expected)


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Settings that choose the datasets and how they are read."""

    data_dir: str = setting("datasets", "Folder of the prepared datasets.", operational=True)
    label_set: str = setting(
        "cityscapes_19",
        "The classes: a name in alp_jax/data/label_sets, or the path of a YAML file of your own.",
    )
    source: str = setting("gta5/all", "Labelled domain, a dataset under data_dir.")
    source_split: str = setting("train", 'A split, or a TFDS slice of one: "train[:50%]".')
    source_size: Size = setting(
        (720, 1280), "(height, width) that source images and labels are resized to."
    )
    target: str = setting(
        "cityscapes/unlabelled", "Domain to adapt to, a dataset without labels under data_dir."
    )
    target_split: str = setting("train", "A split of target, as source_split.")
    target_size: Size = setting(
        (512, 1024), "(height, width) of target images, in evaluation and prediction too."
    )
    image_resize: Literal["bicubic", "bilinear"] = setting(
        "bicubic", "Filter for resizing images (Pillow, antialiased); labels: nearest neighbour."
    )
    flip_probability: float = setting(
        0.0,
        "Probability of a horizontal flip, in both domains; 0 in AdvEnt.",
        at_least=0,
        at_most=1,
    )
    batch_size: int = setting(1, "Images of each domain in a step.", at_least=1)
    num_workers: int = setting(
        0, "Processes that prefetch batches; 0: threads do.", at_least=0, operational=True
    )
    prefetch_batches: int = setting(4, "Batches to prefetch.", at_least=1, operational=True)
    max_bad_records: int = setting(
        0,
        "Corrupt records that training may skip; 0: the first one stops it.",
        at_least=0,
        operational=True,
    )

    def check(self, name: str) -> None:
        """Refuses an unknown label set."""
        check_label_set(f"{name}.label_set", self.label_set)

    def domain(self, name: str) -> Domain:
        """Returns the settings of "source" or "target"."""
        if name == "source":
            return Domain(self.source, self.source_split, self.source_size)
        return Domain(self.target, self.target_split, self.target_size)
