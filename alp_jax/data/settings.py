"""The settings of a run's data: config.data."""

import dataclasses
from typing import Literal, NamedTuple

from alp_jax.data.labels import is_label_set_name, list_label_sets
from alp_jax.settings.schema import Size, refuse, setting


class Domain(NamedTuple):
    """Where the images of a domain are.

    Attributes:
      dataset: under data_dir.
      split: of it.
      size: (height, width) that images are resized to.
    """

    dataset: str
    split: str
    size: tuple[int, int]


def check_label_set(name: str, label_set: str) -> None:
    """Refuses a label set that is neither one of the package nor the path of a YAML file.

    A file is read where its classes are needed: a run that is there keeps a copy of them.
    """
    if not is_label_set_name(label_set):
        expected = f"one of {', '.join(list_label_sets())}, or the path of a .yaml file"
        refuse(name, label_set, expected)


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Which datasets are read, and how."""

    data_dir: str = setting("datasets", "Folder of the prepared datasets.", operational=True)
    label_set: str = setting(
        "cityscapes_19",
        "The classes: cityscapes_19, _16 or _13, or the path of a YAML file with your own.",
    )
    source: str = setting("gta5/all", "Labelled domain, a dataset under data_dir.")
    source_split: str = setting("train", 'A split, or a TFDS slice of one: "train[:50%]".')
    source_size: Size = setting(
        (720, 1280), "(height, width) that source images and labels are resized to."
    )
    target: str = setting(
        "cityscapes/unlabelled", "Domain to adapt to, a dataset without labels under data_dir."
    )
    target_split: str = setting("train", "Of the dataset without labels, as source_split.")
    target_size: Size = setting(
        (512, 1024), "(height, width) of target images, in evaluation and prediction too."
    )
    image_resize: Literal["bicubic", "bilinear"] = setting(
        "bicubic", "Filter that images are resized by (Pillow, antialiased); labels: nearest."
    )
    flip_probability: float = setting(
        0.0, "Of a horizontal flip, in both domains; 0 (AdvEnt).", at_least=0, at_most=1
    )
    batch_size: int = setting(1, "Images of each domain in a step.", at_least=1)
    num_workers: int = setting(
        0, "Processes that read ahead; 0 reads ahead in threads.", at_least=0, operational=True
    )
    prefetch_batches: int = setting(4, "Batches read ahead.", at_least=1, operational=True)
    max_bad_records: int = setting(
        0,
        "Corrupt records that training may leave out; 0: the first stops it.",
        at_least=0,
        operational=True,
    )

    def check(self, name: str) -> None:
        """Refuses a label set that there is not."""
        check_label_set(f"{name}.label_set", self.label_set)

    def domain(self, name: str) -> Domain:
        """Returns the settings of "source" or "target"."""
        if name == "source":
            return Domain(self.source, self.source_split, self.source_size)
        return Domain(self.target, self.target_split, self.target_size)
