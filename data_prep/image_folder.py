"""Prepares your own images, with or without labels, to adapt to, train on or score on.

Synopsis:

  python -m data_prep.image_folder --name=my_camera --images=frames --data_dir=datasets
  python -m data_prep.image_folder --name=my_camera_labelled --split=validation \\
      --images=frames --labels=masks --label_map=map.json

The label map names your own classes, and the dataset stores them (docs/own_data.md).
"""

import dataclasses
import pathlib
import re

from absl import flags

from alp_jax.data.class_names import find_near
from alp_jax.data.labels import LabelTable, load_label_set
from alp_jax.errors import UserError
from data_prep.raw import cli
from data_prep.raw.builder import RawBuilder
from data_prep.raw.files import RawFile, RawFiles
from data_prep.raw.layout import Layout, Selection, Split, match
from data_prep.raw.named_maps import LABEL_IDS, describe_meanings, get_label_map

_FILE = r"(?P<name>.+)\.(?i:png|jpe?g|bmp|tiff?|webp)"
_EXPECTED = "PNG, JPEG, BMP, TIFF or WebP images"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderLayout(Layout):
    """Takes every image of a folder, in one split; its name is its path without the ending.

    Attributes:
        split: split of all images.
        labels_dir: folder of the labels; a label has the path of its image, except for the ending.
            None for images only.
    """

    split: str
    labels_dir: pathlib.Path | None = None

    def select(self, files: RawFiles) -> Selection:
        """Finds the images and their labels.

        Raises:
            UserError: if there is no image or no label, or two files have the same name.
        """
        images = _by_name(files)
        labels = None
        if self.labels_dir is not None:
            label_files = RawFiles(self.labels_dir)
            labels = _by_name(label_files)
            if not labels:
                raise self.nothing_found(label_files)
        pairs, faults = match(images, labels)
        size = Split().describe_count(self.split, [pair.name for pair in pairs])
        notes = [] if self.table is None else _describe_classes(self.table)
        selection = Selection({self.split: pairs}, faults, [size, *notes])
        if not pairs:
            selection.check_partners()
            raise self.nothing_found(files)
        return selection


def _describe_classes(table: LabelTable) -> list[str]:
    """Describes the classes of a label map, and lists names that are nearly Cityscapes' names."""
    values = ", ".join(f"{name} ({value})" for value, name in sorted(table.names.items()))
    notes = [f"its classes and the values that are stored for them are {values}"]
    published = load_label_set("cityscapes_19").names
    near = {name: find_near(name, published, similarity=0.85) for name in table.class_names}
    differing = [f"{name} ({near[name]})" for name in near if near[name] not in (None, name)]
    if differing:
        notes.append(
            f"{', '.join(differing)}: nearly the names of Cityscapes in brackets, which the label "
            "sets cityscapes_19, _16 and _13 have; only names that are exactly the same match"
        )
    return notes


def _by_name(files: RawFiles) -> dict[str, RawFile]:
    found: dict[str, RawFile] = {}
    for name, file in files.find_all(_FILE):
        other = found.setdefault(name, file)
        if other.path != file.path:
            raise UserError(
                f"{other} and {file} would have the same name, {name}: rename or remove one."
            )
    return dict(sorted(found.items()))


class ImageFolder(RawBuilder):
    """Prepares a folder of images, and of labels if there are any.

    python -m data_prep.image_folder --name=my_camera --images=frames --data_dir=datasets
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = _EXPECTED
    RENAMED_BY = "--name"


class _Command(cli.Command):
    def define_flags(self, values: flags.FlagValues) -> None:
        for name, text in (
            ("name", "Name of the dataset; it is read as image_folder/NAME."),
            ("images", "Folder of images, with its subfolders."),
            ("labels", "Folder of label images that are named like the images. Default: none."),
            ("label_map", "JSON or YAML file: label value or colour -> name of a class, your own "
             "or one of Cityscapes', or ignore; or cityscapes_label_ids (the default), or "
             "cityscapes_train_ids."),
        ):  # fmt: skip
            flags.DEFINE_string(name, None, text, flag_values=values)
        flags.DEFINE_enum(
            "split", "train", ["train", "validation", "test"], "Split of all images.",
            flag_values=values,
        )  # fmt: skip

    def choose(self, values: flags.FlagValues) -> tuple[str, list[Layout]]:
        name, images = cli.require(values, "name"), cli.require(values, "images")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise UserError(
                f"name is {name!r}, but it must be made of letters, digits, dots, - and _."
            )
        if values.label_map and not values.labels:
            raise UserError("label_map is given without labels: give --labels=FOLDER, too.")
        if values.labels:
            _check_apart(images, values.labels)
        label_map = get_label_map(values.label_map or LABEL_IDS)
        layout = FolderLayout(
            name=name,
            expected=_EXPECTED,
            read_label=label_map.read if values.labels else None,
            table=label_map.table if values.labels else None,
            upright=True,
            meanings=describe_meanings(label_map) if values.labels else {},
            assumes_label_ids=not values.label_map,
            takes_label_map=True,
            split=values.split,
            labels_dir=pathlib.Path(values.labels) if values.labels else None,
        )
        return images, [layout]


def _check_apart(images: str, labels: str) -> None:
    image_path, label_path = (pathlib.Path(p).expanduser().resolve() for p in (images, labels))
    if image_path.is_relative_to(label_path) or label_path.is_relative_to(image_path):
        raise UserError(
            f"images is {images} and labels is {labels}: one is inside the other, so that labels "
            "would be taken for images; give two folders side by side."
        )


COMMAND = _Command(builder=ImageFolder)

if __name__ == "__main__":
    cli.run("data_prep.image_folder")
