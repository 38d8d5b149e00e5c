"""Prepares your own images, with or without labels, to adapt to, train on or score on.

Synopsis:

  python -m data_prep.image_folder --name=my_camera --images=frames --data_dir=datasets
  python -m data_prep.image_folder --name=my_camera_labelled --split=validation \\
      --images=frames --labels=masks --label_map=map.json
  python -m data_prep.image_folder --name=my_drive --images=drive.mp4 --every=10

The label map names your own classes, and the dataset stores them (docs/own_data.md).
"""

import os
import pathlib
import re
import shlex

from absl import flags

from alp_jax.data.intensity import CHOICES, parse_intensity
from alp_jax.data.videos import is_video
from alp_jax.errors import UserError
from data_prep.raw import cli
from data_prep.raw.builder import RawBuilder
from data_prep.raw.files import RawFiles
from data_prep.raw.folder_layout import FolderLayout
from data_prep.raw.labelme import BACKGROUND, load_shape_map
from data_prep.raw.layout import Decoding, Layout, MapReader
from data_prep.raw.name_pairs import (
    EXAMPLES,
    SAME_NAMES,
    SAME_NAMES_SHAPES,
    SHAPES,
    PairRule,
    parse_pairs,
)
from data_prep.raw.named_maps import LABEL_IDS, get_label_map
from data_prep.raw.pair_proposals import propose_for_one_folder

_EXPECTED = "PNG, JPEG, BMP, TIFF or WebP images"


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
            ("images", "Folder of images, with its subfolders, or a video."),
            ("labels", "Folder of label images, or of labelme's JSON files, that are named like "
             "the images. Default: none."),
            ("label_map", "JSON or YAML file: label value, colour or label of shapes -> name of a "
             "class, your own or one of Cityscapes', or ignore; or CVAT's labelmap.txt; or "
             "cityscapes_label_ids (the default), or cityscapes_train_ids."),
            ("pairs", "How the names of images and labels go together, IMAGE:LABEL, with * for "
             f"what they share: {EXAMPLES}. Then both may lie in one folder. Without --labels, "
             "IMAGE is enough. Default: the same names."),
            ("intensity", f"How images of more than 8 bits become 8: {CHOICES}. Default: only "
             "images that lose nothing are taken."),
        ):  # fmt: skip
            flags.DEFINE_string(name, None, text, flag_values=values)
        for name, choices, text in (
            ("split", ["train", "validation", "test"], "Split of all images."),
            ("label_orientation", ["upright", "stored"], "What labels fit where an image has an "
             "EXIF orientation: the image as it is shown, or the pixels as they are stored. "
             "Default: what their sizes tell."),
        ):  # fmt: skip
            default = "train" if name == "split" else None
            flags.DEFINE_enum(name, default, choices, text, flag_values=values)
        flags.DEFINE_integer(
            "every", None, "Take every Nth frame of videos.", lower_bound=1, flag_values=values
        )

    def choose(self, values: flags.FlagValues) -> tuple[str, list[Layout]]:
        name, images = cli.require(values, "name"), cli.require(values, "images")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise UserError(f"--name is {name!r}: expected letters, digits, dots, - and _.")
        _check_flags(values)
        rule = _find_rule(values)
        has_shapes = rule.label is not None and rule.label.endings == (SHAPES,)
        reader = _load_map(values, has_shapes=has_shapes)
        layout = FolderLayout(
            name=name,
            expected=_EXPECTED if values.every is None else f"{_EXPECTED}, or videos",
            read_label=reader,
            table=None if reader is None else reader.table,
            decoding=Decoding(
                upright=True,
                label_orientation=values.label_orientation,
                intensity=parse_intensity(values.intensity),
                any_proportions=False,
            ),
            meanings={} if reader is None else reader.meanings,
            assumes_label_ids=not values.label_map,
            takes_label_map=True,
            split=values.split,
            labels_dir=pathlib.Path(values.labels) if values.labels else None,
            rule=rule,
            every=values.every,
        )
        return images, [layout]


def _check_flags(values: flags.FlagValues) -> None:
    """Refuses flags that contradict each other."""
    for flag in ("label_map", "label_orientation"):
        if getattr(values, flag) and not values.labels:
            raise UserError(f"--{flag} is given without --labels: give --labels=FOLDER, too.")
    for flag in ("images", "labels"):
        folder, output = (
            pathlib.Path(given or os.devnull).expanduser().resolve()
            for given in (values[flag].value, values.data_dir)
        )
        if not values.check and folder.is_dir() and output.is_relative_to(folder):
            raise UserError(
                f"--data_dir, {values.data_dir}, lies in the input of --{flag}, "
                f"{values[flag].value}: give a folder beside it."
            )
    path = pathlib.Path(values.images).expanduser()
    if path.is_file() and is_video(path) and values.every is None:
        raise UserError(
            f"--images is the video {path}: say with --every=N that every Nth frame is to be taken "
            "(--every=1: all)."
        )
    if values.every is not None and values.labels:
        raise UserError(
            "--labels is given with --every, but frames of a video have no labels: leave --labels "
            "out, or give a folder of images without --every."
        )


def _find_rule(values: flags.FlagValues) -> PairRule:
    """Returns how names go together; labels may be JSON files if there are no label images."""
    if not values.labels:
        return parse_pairs(values.pairs, with_labels=False) if values.pairs else SAME_NAMES
    image_path, label_path = (
        pathlib.Path(path).expanduser().resolve() for path in (values.images, values.labels)
    )
    if image_path == label_path:
        return parse_pairs(values.pairs) if values.pairs else _refuse_one_folder(values)
    for outer, inner, form in (
        (image_path, label_path, "*:{}/*"), (label_path, image_path, "{}/*:*")
    ):  # fmt: skip
        if inner.is_relative_to(outer):
            pairs = form.format(inner.relative_to(outer).as_posix())
            raise UserError(
                f"--images is {values.images} and --labels is {values.labels}: one is inside the "
                "other, so that labels would be taken for images; give two folders side by side, "
                f"or both in one: --images={outer} --labels={outer} --pairs={shlex.quote(pairs)}."
            )
    if values.pairs:
        return parse_pairs(values.pairs)
    files = RawFiles(values.labels)
    if SAME_NAMES.image.find(files) or not _has_shapes(files):
        return SAME_NAMES
    return SAME_NAMES_SHAPES


def _has_shapes(files: RawFiles) -> bool:
    return bool(files.find_all(rf"(?P<name>.+)\.(?i:{SHAPES})"))


def _refuse_one_folder(values: flags.FlagValues) -> PairRule:
    files = RawFiles(values.images)
    names = list(SAME_NAMES.image.find(files))
    proposals = propose_for_one_folder(names, has_shapes=_has_shapes(files))
    what = f"if they are: {' or '.join(proposals)}" if proposals else f"such as {EXAMPLES}"
    raise UserError(
        f"--images and --labels are both {values.images}: say by their names which files are "
        f"labels, {what}."
    )


def _load_map(values: flags.FlagValues, *, has_shapes: bool) -> MapReader | None:
    if not values.labels:
        return None
    if has_shapes:
        if not values.label_map:
            raise UserError(
                f"{values.labels} holds shapes of labelme (.{SHAPES}): say with "
                f"--label_map=map.yaml which class each label is, and {BACKGROUND}, the area "
                "without a shape."
            )
        return load_shape_map(values.label_map)
    return get_label_map(values.label_map or LABEL_IDS)


COMMAND = _Command(builder=ImageFolder)

if __name__ == "__main__":
    cli.run("data_prep.image_folder")
